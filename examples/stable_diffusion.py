"""Steer Stable Diffusion with ImageReward: one prompt, or a GenEval-style evaluation over a file of prompts.

    python examples/stable_diffusion.py --prompt "a photo of a red dog and a green cat" --k 4
    python examples/stable_diffusion.py --prompts evaluation_metadata.jsonl --k 8 --out runs/sd21-k8
    python examples/stable_diffusion.py --model stabilityai/stable-diffusion-xl-base-1.0 --prompt "..."

The defaults are those of FK steering (Singhal et al. 2025): lambda = 10, the difference potential, 100 steps of DDIM
with eta = 1, resampling at steps 20, 40, 60 and 80. `--potential none` is best-of-k. Each line of the file of prompts
is a JSON object with a "prompt"; images are written in the layout that GenEval's own evaluation reads
(https://github.com/djghosh13/geneval): OUT/00000/metadata.jsonl and OUT/00000/samples/0000.png, best reward first.
"""

import argparse
import importlib
import json
import sys
import time
from pathlib import Path
from typing import Any

from smcgen.diffusion import steer
from smcgen.diffusion.pipelines.load import loaded
from smcgen.resampling import Every


def parser(**defaults: Any) -> argparse.ArgumentParser:
    own = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    own.add_argument("--model", default="stabilityai/stable-diffusion-2-1")
    own.add_argument("--prompt", default="a photo of a red dog and a green cat")
    own.add_argument("--prompts", type=Path, help='JSON lines, each with a "prompt"')
    own.add_argument("--limit", type=int, help="only so many prompts of the file")
    own.add_argument(
        "--reward", default="imagereward", help="a name, or module:function of images and prompts"
    )
    own.add_argument("--k", type=int, default=4, help="particles per prompt")
    own.add_argument("--lambda", dest="strength", type=float, default=10.0)
    own.add_argument(
        "--potential", default="difference", help="difference, max, sum, immediate or none"
    )
    own.add_argument("--every", type=int, default=20, help="resample every so many steps ...")
    own.add_argument("--start", type=int, help="... from this one ...")
    own.add_argument("--end", type=int, help="... to this one, if not the last but one")
    own.add_argument(
        "--ess-threshold", type=float, default=1.0, help="1: always; 0.5: where weights are uneven"
    )
    own.add_argument("--steps", type=int, default=100)
    own.add_argument("--eta", type=float, default=1.0, help="noise of each step, 0 to 1")
    own.add_argument(
        "--options",
        type=json.loads,
        default={},
        help="of the pipeline, as JSON: guidance_scale, height, ...",
    )
    own.add_argument("--batch-size", type=int, help="images decoded and scored at a time")
    own.add_argument("--seeds", type=int, nargs="+", default=[0])
    own.add_argument("--out", type=Path, default=Path("runs/stable_diffusion"))
    own.set_defaults(**defaults)
    return own


def items_of(args: argparse.Namespace) -> list[dict[str, Any]]:
    if args.prompts is None:
        return [{"prompt": args.prompt}]
    lines = args.prompts.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines if line.strip()][: args.limit]


def reward_of(name: str) -> Any:
    """A published reward by name, loaded once; or a function of one's own."""
    if ":" not in name:
        from smcgen.diffusion.rewards.named import named

        return named(name)
    module, function = name.split(":")
    sys.path.insert(0, ".")
    return getattr(importlib.import_module(module), function)


def evaluate(args: argparse.Namespace) -> list[dict[str, Any]]:
    """Steer every prompt with every seed; write images and rewards, and say how it went."""
    pipe, reward, rows = loaded(args.model), reward_of(args.reward), []
    pipe.set_progress_bar_config(disable=True)
    for index, item in enumerate(items_of(args)):
        folder = args.out / f"{index:05}"
        (folder / "samples").mkdir(parents=True, exist_ok=True)
        (folder / "metadata.jsonl").write_text(json.dumps(item) + "\n", encoding="utf-8")
        for seed in args.seeds:
            began = time.perf_counter()
            result = steer(
                pipe,
                reward,
                prompt=item["prompt"],
                n_particles=args.k,
                strength=args.strength,
                twist=None if args.potential == "none" else args.potential,
                resampling=Every(args.every, start=args.start, end=args.end or args.steps - 1),
                ess_threshold=args.ess_threshold,
                batch_size=args.batch_size,
                key=seed,
                eta=args.eta,
                num_inference_steps=args.steps,
                **args.options,
            )
            order = result.rewards.argsort()[::-1]
            first = seed * args.k
            for place, i in enumerate(order):
                result.images[i].save(folder / "samples" / f"{first + place:04}.png")
            row = {
                "prompt": item["prompt"],
                "seed": seed,
                "best": float(result.rewards.max()),
                "mean": float(result.rewards.mean()),
                "drawn": float(result.rewards[int(result.smc.sample(seed)[0])]),
                "log_evidence": result.log_evidence,
                "ess": result.ess,
                "nfe": result.cost.nfe,
                "reward_calls": result.cost.reward_calls,
                "seconds": time.perf_counter() - began,
            }
            rows.append(row)
            with (args.out / "results.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(
                f"{row['prompt'][:50]:50}  best {row['best']:7.3f}  mean {row['mean']:7.3f}",
                flush=True,
            )
    average = lambda name: sum(row[name] for row in rows) / len(rows)
    print(
        f"{len(rows)} runs, k={args.k}: best {average('best'):.3f}, drawn by weight {average('drawn'):.3f}, "
        f"mean {average('mean'):.3f}, {average('nfe'):.0f} network calls and {average('seconds'):.1f} s a run"
    )
    return rows


if __name__ == "__main__":
    evaluate(parser().parse_args())
