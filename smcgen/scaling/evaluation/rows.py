"""An evaluation in numbers: one row for each strategy and budget, gains over one sample, scaling ratios."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from smcgen.scaling.evaluation.records import Record
from smcgen.scaling.evaluation.results import Cell, Results
from smcgen.scaling.evaluation.statistics import (
    bootstrap_interval,
    expected_calibration_error,
)
from smcgen.scaling.registry import STRATEGIES
from smcgen.scaling.strategies.independent import Independent

INDEPENDENT = [name for name, kind in STRATEGIES.items() if issubclass(kind, Independent)]
"""Strategies whose texts are independent draws from the model: what pass@1 and pass@k are measured on."""


@dataclass(frozen=True)
class Row:
    """A strategy at a budget.

    Attributes:
        problems, seeds: how many; low, high: the 95 % bootstrap interval of the accuracy, over problems.
        gain: accuracy minus pass@1, NaN where no strategy measures that; gain_low, gain_high: its paired interval.
        coverage: share of runs with a right text among all of theirs.
        tokens: drawn from the model; prefilled: read by it; scored: read by rewards; calls: of rewards; seconds:
            all per problem.
        memory: the most bytes that the process held in any run, GPUs included; 0: not measured.
        ece: expected calibration error of the chosen answer's probability.
        failed: problems that were given up.
    """

    reward: str | None
    strategy: str
    budget: str
    problems: int
    seeds: int
    accuracy: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float
    coverage: float
    tokens: float
    prefilled: float
    scored: float
    calls: float
    seconds: float
    memory: int
    ece: float
    failed: int


def summary(results: Results) -> list[Row]:
    """The rows of all cells, over the problems that all have."""
    if not results.problems:
        return []
    once = pass_at_1(results)
    return [_row(results, cell, once) for cell in results.cells]


def pass_at_1(results: Results) -> Float64[np.ndarray, " problems"] | None:
    """The chance that one text is right, from the independent texts of the largest budget."""
    found = [c for c in results.cells if c[1].partition("[")[0] in INDEPENDENT]
    if not found:
        return None
    return results.per_problem(found[-1], lambda r: np.mean(r.correct) if r.correct else 0.0)


def _row(results: Results, cell: Cell, once: np.ndarray | None) -> Row:
    records = results.cells[cell]
    solved = results.solved(cell)
    low, high = bootstrap_interval(solved)
    nothing = (float("nan"),) * 3
    gain = nothing if once is None else _mean_with_interval(solved - once)
    mean = lambda of: float(results.per_problem(cell, of).mean())
    sure = [r for r in records if r.confidence is not None]
    return Row(
        *cell,
        problems=len(solved),
        seeds=len({r.seed for r in records}),
        accuracy=float(solved.mean()),
        low=low,
        high=high,
        gain=gain[0],
        gain_low=gain[1],
        gain_high=gain[2],
        coverage=mean(lambda r: any(r.correct)),
        tokens=mean(lambda r: r.counted.tokens_generated),
        prefilled=mean(lambda r: r.counted.tokens_prefilled),
        scored=mean(lambda r: r.counted.reward_tokens),
        calls=mean(lambda r: r.counted.reward_calls),
        seconds=mean(lambda r: r.counted.seconds),
        memory=max((r.counted.peak_memory + r.counted.peak_gpu_memory for r in records), default=0),
        ece=expected_calibration_error(_confidences(sure), np.array([r.right for r in sure])),
        failed=sum(r.error is not None for r in records),
    )


def _confidences(records: Sequence[Record]) -> Float64[np.ndarray, " n"]:
    return np.array([r.confidence for r in records], np.float64)


def _mean_with_interval(values: np.ndarray) -> tuple[float, float, float]:
    return (float(values.mean()), *bootstrap_interval(values))
