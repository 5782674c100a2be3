"""Reward and the held-out judge against denoiser calls: the figure of docs/diffusion.md, and its numbers.

Run with `python benchmarks/diffusion_scaling.py --out docs/images/diffusion-scaling.png`. Digits steered to each of
the ten classes; seeded, so that the figure comes out the same. The reward says how well a method optimises, the
judge, which nobody steered by, what that is worth.
"""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from matplotlib.figure import Figure

from smcgen.demo.digits import Digits, Outcome, compare
from smcgen.demo.digits_report import COLOURS
from smcgen.scaling.evaluation.statistics import bootstrap_interval


def figure(outcomes: list[Outcome], path: Path) -> None:
    """Two panels with 95 % bootstrap intervals over runs."""
    fig = Figure(figsize=(10, 4), layout="constrained")
    quantities = {
        "mean reward: log p(class), nats": lambda o: o.rewards,
        "judged right": lambda o: o.hits,
    }
    for ax, (name, of) in zip(fig.subplots(1, 2), quantities.items(), strict=True):
        for method, colour in COLOURS.items():
            points = [o for o in outcomes if o.method in (method, "plain")]
            if method == "plain" or len(points) < 2:
                continue
            nfe, means = [o.nfe for o in points], [np.mean(of(o)) for o in points]
            low, high = np.array([bootstrap_interval(of(o)) for o in points]).T
            ax.plot(nfe, means, "o-", color=colour, label=method)
            ax.fill_between(nfe, low, high, color=colour, alpha=0.12, linewidth=0)
        ax.set_xscale("log", base=2)
        ticks = sorted({o.nfe for o in outcomes})
        ax.set_xticks(ticks, [str(t) for t in ticks])
        ax.set(xlabel="denoiser calls a picture", title=name)
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False)
    fig.savefig(path, dpi=130)


def main() -> None:
    """Measure, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("docs/images/diffusion-scaling.png"))
    parser.add_argument("--ns", type=int, nargs="+", default=[1, 2, 4, 8, 16])
    parser.add_argument("--repeats", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    outcomes = []
    for new in compare(Digits(), options.ns, options.repeats, options.seed):
        for o in new:
            row = {"method": o.method, "n": o.n, "nfe": o.nfe, "judged": float(o.hits.mean())}
            print(json.dumps(row | {"reward": float(o.rewards.mean()), "spread": o.spread}))
        outcomes += new
    options.out.parent.mkdir(parents=True, exist_ok=True)
    figure(outcomes, options.out)


if __name__ == "__main__":
    main()
