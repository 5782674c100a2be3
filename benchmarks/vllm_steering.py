"""What steering costs on vLLM over plain generation by the same engine, and against other libraries.

Both sides write the same number of tokens with the same small model. Run with `python benchmarks/vllm_steering.py`;
peers are measured too if `--peers` (or SMCGEN_PEERS) names a Python that has its_hub and genlm-control.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # vLLM binds its threads when it starts

import jax
import numpy as np
import torch

from benchmarks._report import Report, alternating, median_and_spread, seconds
from benchmarks._sizes import VOCAB, add_size
from benchmarks._vllm_peers import alone, peer_rows
from benchmarks._vllm_sides import (
    ENGINE,
    TOKENS,
    Steered,
    constrained,
    plain,
    some_prompts,
    token_level,
    write_model,
)
from benchmarks.vllm_rewards import parts
from smcgen import smc, smc_each
from smcgen.text import VLLM, FunctionReward, ProcessReward, Step, TextModel

SECTIONS = ("one", "many", "again", "overlap", "usual", "wide", "peers")
PROMPT = 70
PROBLEMS = 8


def ratio_rows(
    report: Report, sides: dict[str, Callable[[], float]], tokens: int, repeats: int
) -> dict[str, float]:
    """Rows of sides measured in turns; the first is what the others are compared with."""
    measured = alternating(list(sides.values()), repeats)
    ratios = measured / measured[:, :1]
    for (name, side), s, r in zip(sides.items(), measured.T, ratios.T, strict=True):
        forks = f"{side.forked} forks" if isinstance(side, Steered) else ""
        speed = f"{tokens / np.median(s):.0f}"
        report.row(name, median_and_spread(s), median_and_spread(r), speed, forks)
    return dict(zip(sides, np.median(ratios, axis=0).tolist(), strict=True))


def one_rows(report: Report, engine: VLLM, repeats: int, sizes: Sequence[int]) -> None:
    """One problem: step level, token level, and a constraint, against plain generation."""
    vocab = engine.vocab_size
    prompt = some_prompts(1, PROMPT, vocab)
    for n in sizes:
        sides: dict[str, Callable[[], float]] = {
            "plain": partial(plain, engine, prompt, n),
            "plain, no seeds": partial(plain, engine, prompt, n, seeded=False),
            "step level": Steered(engine, prompt, n),
            "token level": token_level(engine, prompt, n),
            "constraint": constrained(engine, prompt, n),
        }
        sides = {f"{k}, n = {n}, V = {vocab}": side for k, side in sides.items()}
        found = list(ratio_rows(report, sides, n * TOKENS, repeats).values())
        report.aim(f"step_level_n{n}_v{vocab}", found[2], 1.15)
        report.aim(f"token_level_n{n}_v{vocab}", found[3], 1.50)
        report.aim(f"constraint_n{n}_v{vocab}", found[4], 1.50)


def many_rows(report: Report, engine: VLLM, repeats: int) -> None:
    """Several problems at once, each with a barrier of its own, against one plain batch."""
    n, prompts = 16, some_prompts(PROBLEMS, PROMPT, engine.vocab_size)
    sides: dict[str, Callable[[], float]] = {
        f"plain, {PROBLEMS} x {n}": partial(plain, engine, prompts, n),
        f"step level, {PROBLEMS} x {n}": Steered(engine, prompts, n),
    }
    found = list(ratio_rows(report, sides, PROBLEMS * n * TOKENS, repeats).values())
    report.aim(f"step_level_{PROBLEMS}_problems", found[1], 1.15)


def again_rows(report: Report, engine: VLLM, repeats: int, lengths: Sequence[int]) -> None:
    """Copies that begin with their parents' cache, against copies through the prefix cache."""
    n = 64
    for length in lengths:
        prompt = some_prompts(1, length, engine.vocab_size)
        for kind, make in {"step": Steered, "token": token_level}.items():
            sides = {
                f"{kind} level, {how}, prompt {length}": make(engine, prompt, n, forks=forks)
                for how, forks in {"forks": True, "prefix cache": False}.items()
            }
            ratio_rows(report, dict(sides), n * TOKENS, repeats)
            for side in sides.values():  # with nothing in the prefix cache
                engine._core.scheduler.reset_prefix_cache()
                side()
            read = [side.cost.tokens_prefilled for side in sides.values()]
            report.row("  tokens read", " / ".join(map(str, read)), "", "", "")
            report.aim(f"read_again_{kind}_prompt_{length}", read[0] - length, 0.0)


def overlap_rows(report: Report, engine: VLLM, repeats: int) -> None:
    """Problems at their own pace against problems in step, with steps of unequal length."""
    model, _ = parts()

    def remote(ids: list[list[int]]) -> list[float]:
        time.sleep(0.1)
        return [(hash(tuple(i)) % 1000) / 250.0 for i in ids]

    rewards = {
        "process reward": ProcessReward(model, engine.tokenizer),
        "reward of 0.1 s": FunctionReward(remote, on="ids"),
    }
    n, prompts = 8, some_prompts(PROBLEMS, PROMPT, engine.vocab_size)
    step = Step(when=lambda ids: ids[-1] % 20 == 0, on="ids", tokens=40)  # 17 tokens in the mean
    for name, reward in rewards.items():
        task = TextModel(engine, prompts, reward, step, None, TOKENS)
        options: dict[str, Any] = {"ess_threshold": 1.0, "keep": "summary"}
        sides = {
            f"in step, {name}": partial(smc, task, jax.random.key(1), n, **options),
            f"each, {name}": partial(smc_each, task.split(), jax.random.key(1), n, **options),
        }
        calls: dict[str, Any] = {k: partial(seconds, side) for k, side in sides.items()}
        found = list(ratio_rows(report, calls, PROBLEMS * n * TOKENS, repeats).values())
        report.aim("overlap_" + name.replace(" ", "_"), found[1], 1.0)
    early_rows(report, engine, step, repeats)


def early_rows(report: Report, engine: VLLM, step: Step, repeats: int) -> None:
    """One problem: a service of 5 ms a text scores early finishers while others are written, or all at the end."""

    def service(ids: list[list[int]]) -> list[float]:
        time.sleep(0.005 * len(ids))
        return [(hash(tuple(i)) % 1000) / 250.0 for i in ids]

    prompt = some_prompts(1, PROMPT, engine.vocab_size)[0]
    for n in (16, 64):
        sides = {}
        for name, elsewhere in (("at the end", False), ("early", True)):
            reward = FunctionReward(service, on="ids", cache=0, elsewhere=elsewhere)
            task = TextModel(engine, prompt, reward, step, None, TOKENS)
            run = partial(smc, task, jax.random.key(1), n, ess_threshold=1.0, keep="summary")
            sides[f"5 ms a text, {name}, n = {n}"] = partial(seconds, run)
        found = list(ratio_rows(report, sides, n * TOKENS, repeats).values())
        report.aim(f"overlap_early_n{n}", found[1], 1.0)


def usual_rows(
    report: Report, engine: VLLM, model: Path, repeats: int, sizes: Sequence[int]
) -> None:
    """Steps of ours against `vllm.LLM` as it comes: its core is a process of its own, and schedules ahead."""
    import psutil
    from vllm import LLM, SamplingParams

    llm: Any = LLM(str(model), **{"kv_cache_memory_bytes": 1 << 30, **ENGINE})
    cores = [p.pid for p in psutil.Process().children(recursive=True)]
    params = SamplingParams(max_tokens=TOKENS, ignore_eos=True, detokenize=False)
    prompt = some_prompts(1, PROMPT, engine.vocab_size)

    def generate(n: int) -> float:
        asked = [{"prompt_token_ids": list(prompt[0].ids)}] * n
        return seconds(partial(llm.generate, asked, params, use_tqdm=False))

    for n in sizes:
        steered = Steered(engine, prompt, n)
        sides = {
            f"vllm.LLM, n = {n}": partial(generate, n),
            f"step level, n = {n}": partial(alone, cores, steered),
        }
        found = list(ratio_rows(report, sides, n * TOKENS, repeats).values())
        report.aim(f"step_level_over_vllm_llm_n{n}", found[1], 1.15)
    llm.llm_engine.engine_core.shutdown()


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="end with a line of JSON")
    parser.add_argument("--full", action="store_true", help="the long version, and V = 151936")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, help="some sections alone")
    parser.add_argument("--repeats", type=int, help="pairs that are measured")
    parser.add_argument("--peers", default=os.environ.get("SMCGEN_PEERS"), metavar="PYTHON")
    add_size(parser)
    options = parser.parse_args()
    chosen = options.only or [s for s in SECTIONS if options.full or s != "wide"]
    torch.set_num_threads(1)
    report = Report(
        f"steering on vLLM: {TOKENS} tokens a text, reward apart; ratios to the first of each group",
        ("what", "seconds: median (range)", "ratio: median (range)", "tokens/s", ""),
    )
    repeats = options.repeats or (9 if options.full else 3)
    with tempfile.TemporaryDirectory() as folder:
        size = options.size
        model = write_model(Path(folder, size), VOCAB[size], ends=False, size=size)
        with VLLM(model, **ENGINE) as engine:
            if "one" in chosen:
                one_rows(report, engine, repeats, (16, 64, 256) if options.full else (16, 64))
            if "many" in chosen:
                many_rows(report, engine, repeats)
            if "again" in chosen:
                again_rows(report, engine, repeats, (PROMPT, 1024) if options.full else (PROMPT,))
            if "overlap" in chosen:
                overlap_rows(report, engine, repeats)
            if "usual" in chosen:
                usual_rows(report, engine, model, repeats, (16, 64, 256) if options.full else (64,))
        if "wide" in chosen:
            wide = write_model(Path(folder, "wide"), 151_936, ends=False)
            with VLLM(wide, **ENGINE) as engine:
                one_rows(report, engine, options.repeats or 3, (16,))
        if "peers" in chosen:
            model = write_model(Path(folder, "ends"), 2048, ends=True)
            peer_rows(report, model, options.peers, options.full)
    report.show(options.json)


if __name__ == "__main__":
    main()
