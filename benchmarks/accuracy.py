"""Accuracy against N on held-out arithmetic: the particle filter at N against best-of-4N.

Run with `python benchmarks/accuracy.py` (one seed, 100 problems, N up to 16) or `--full` (5 seeds, 200 problems,
best-of-N up to 64, the filter up to 16: the figures in
README.md).
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch

from benchmarks._report import Report
from smcgen.demo.solve import Outcome, solve
from smcgen.scaling.evaluation.statistics import bootstrap_interval
from smcgen.scaling.evaluation.tasks import load_task
from smcgen.shipped import shipped
from smcgen.text import ProcessReward, Transformers


def measure(
    reward: str, problems: int, ns: list[int], seeds: int
) -> dict[tuple[str, int], list[Outcome]]:
    """Outcomes of all seeds per method and N."""
    engine, prm = Transformers(shipped("tape-policy")), ProcessReward(shipped(reward))
    held_out = load_task(shipped("data/tape.jsonl")).where(ops=8).first(problems).problems
    found: dict[tuple[str, int], list[Outcome]] = {}
    for seed in range(seeds):
        for outcomes, _ in solve(held_out, engine, prm, ns, seed, [n for n in ns if n <= 16]):
            for outcome in outcomes:
                found.setdefault((outcome.method, outcome.n), []).append(outcome)
                accuracy = outcome.solved.mean()
                print(
                    f"seed {seed} {outcome.method} N={outcome.n}: {accuracy:.3f}", file=sys.stderr
                )
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--reward", default="tape-prm-good")
    parser.add_argument("--seeds", type=int)
    options = parser.parse_args()
    torch.set_num_threads(1)
    problems, ns, seeds = (200, [1, 4, 16, 64], 5) if options.full else (60, [4, 16], 1)
    seeds = options.seeds or seeds
    found = measure(options.reward, problems, ns, seeds)
    report = Report(
        f"{problems} held-out problems, {seeds} seeds, {options.reward}",
        (
            "method",
            "N",
            "accuracy",
            "95 % interval over problems",
            "sd over seeds",
            "tokens a problem",
        ),
    )
    for (method, n), outcomes in found.items():
        solved = np.mean([o.solved for o in outcomes], 0)
        low, high = bootstrap_interval(solved)
        spread = np.std([o.solved.mean() for o in outcomes])
        tokens = np.mean([o.cost.tokens_generated for o in outcomes]) / problems
        report.row(
            method, str(n), f"{solved.mean():.3f}", f"{low:.3f}-{high:.3f}", f"{spread:.3f}", tokens
        )
    if ("best-of-N", 64) in found:
        accuracy = lambda method, n: np.mean([o.solved for o in found[method, n]])
        gap = accuracy("best-of-N", 64) - accuracy("particle filter", 16)
        report.aim("best_of_64_minus_filter_16", gap, 0.0)
    report.show(options.json)


if __name__ == "__main__":
    main()
