"""Scaling ratio: how many times the budget one strategy needs to be as accurate as another.

A curve is accuracy against budget. Between its points it is a line in log budget; to be as accurate means to have
reached that accuracy at this or a smaller budget, so a dip that is noise does not count.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped

from smcgen.errors import InvalidArgument
from smcgen.scaling.evaluation.statistics.bootstrap import percentiles, resamples


@dataclass(frozen=True)
class Curve:
    """A strategy's results at increasing budgets on the same problems.

    Attributes:
        budgets: N, tokens or whatever is compared, increasing, shape (budgets,).
        solved: share of seeds that solved each problem, shape (budgets, problems).
    """

    budgets: Shaped[np.ndarray, " budgets"]
    solved: Float64[np.ndarray, "budgets problems"]

    def __post_init__(self) -> None:
        increasing = (np.diff(self.budgets) > 0).all() and (np.asarray(self.budgets) > 0).all()
        if not len(self.budgets) or not increasing:
            raise InvalidArgument("budgets", list(self.budgets), "increasing and positive")


@dataclass(frozen=True)
class Ratio:
    """The baseline needs `value` times the budget `at` of the reference.

    `value` is infinite where the baseline never gets there: then it is more than `most`, its largest budget over
    `at`. It is 0 where its smallest budget is enough already: then it is at most `least`. The same goes for the
    ends `low` and `high` of the 95 % bootstrap interval.
    """

    at: float
    value: float
    low: float
    high: float
    least: float
    most: float

    def _shown(self, value: float) -> str:
        if np.isinf(value):
            return f">{self.most:.3g}"
        return f"<={self.least:.3g}" if value == 0 else f"{value:.3g}"

    def __str__(self) -> str:
        interval = f"{self._shown(self.low)} to {self._shown(self.high)}"
        return f"{self._shown(self.value)} ({interval})"


def budget_needed(
    budgets: Shaped[np.ndarray, " budgets"],
    accuracy: Float64[np.ndarray, "budgets draws"],
    target: Float64[np.ndarray, " draws"],
) -> Float64[np.ndarray, " draws"]:
    """The smallest budget at which each curve has reached its target: 0 if at its start, infinite if never."""
    logs = np.log(np.asarray(budgets, np.float64))
    best = np.maximum.accumulate(accuracy, 0)
    reached = best >= target - 1e-12  # means of the same numbers in another order
    at, draws = np.argmax(reached, 0), np.arange(len(target))
    before, after = best[at - 1, draws], best[at, draws]
    with np.errstate(divide="ignore", invalid="ignore"):  # of what is decided below
        share = np.clip((target - before) / (after - before), 0.0, 1.0)
    needed = np.exp(logs[at - 1] + share * (logs[at] - logs[at - 1]))
    return np.where(reached.any(0), np.where(at == 0, 0.0, needed), np.inf)


def scaling_ratio(reference: Curve, baseline: Curve, level: float = 0.95) -> list[Ratio]:
    """A `Ratio` at each budget of the reference; problems are redrawn for both curves at once.

    Raises:
        InvalidArgument: the two are not on the same number of problems.
    """
    problems = reference.solved.shape[1]
    if baseline.solved.shape[1] != problems:
        raise InvalidArgument("baseline", baseline.solved.shape[1], f"on {problems} problems")
    # the first row is the problems as they are
    picks = np.concatenate([np.arange(problems)[None], resamples(problems)])
    targets, accuracy = (c.solved[:, picks].mean(-1) for c in (reference, baseline))
    ratios = []
    for at, target in zip(np.asarray(reference.budgets, np.float64), targets, strict=True):
        values = budget_needed(baseline.budgets, accuracy, target) / at
        least, most = (float(baseline.budgets[end]) / float(at) for end in (0, -1))
        low, high = percentiles(values[1:], level)
        ratios.append(Ratio(float(at), float(values[0]), low, high, least, most))
    return ratios
