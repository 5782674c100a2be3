"""Accuracy against budget and against counted cost, with intervals (extra `plot`)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from smcgen.errors import MissingExtra
from smcgen.scaling.evaluation.records import budget_size
from smcgen.scaling.evaluation.results import Cell, Results, counted
from smcgen.scaling.evaluation.statistics import bootstrap_interval

# Okabe and Ito's colours, told apart by colour-blind readers too; markers for more than seven
_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#E69F00", "#56B4E9", "#CC79A7", "#000000")
_MARKERS = "osD^vPX*"


def figure(results: Results, path: str | Path | None = None, by: str = "tokens") -> Any:
    """A row of two panels for each reward: accuracy against the budget, and against a counted cost.

    Args:
        results: what to draw.
        path: where to save it, if anywhere; the ending says as what.
        by: the counted cost: "tokens" (all that models wrote or read) or a field of `Cost`.

    Bars are 95 % bootstrap intervals over problems. Strategies without a use for a reward are in every row.

    Raises:
        MissingExtra: without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("the figure", "matplotlib", "plot") from error
    rewards: list[str | None] = [r for r in dict.fromkeys(c[0] for c in results.cells) if r]
    rewards = rewards or [None]
    fig = Figure(figsize=(12, 4.6 * len(rewards)), layout="constrained")
    axes = fig.subplots(len(rewards), 2, squeeze=False, sharey=True)
    names = list(dict.fromkeys(c[1] for c in results.cells))
    for row, reward in zip(axes, rewards, strict=True):
        for number, name in enumerate(names):
            cells = [c for c in results.cells if c[1] == name and c[0] in (reward, None)]
            if cells:
                _draw(
                    results,
                    cells,
                    row,
                    by,
                    look_of(number),
                    name,
                    1.03 ** (number - len(names) // 2),
                )
        title = f"{len(results.problems)} problems of {results.name}"
        row[0].set_title(title + (f", reward {reward}" if len(rewards) > 1 else ""))
        sizes = sorted({budget_size(c[2]) for c in results.cells})
        row[0].set_xscale("log", base=2)
        row[0].set_xticks(sizes, [f"{s:g}" for s in sizes])
        row[0].set(xlabel="budget per problem (N)", ylabel="accuracy")
        row[1].set_xscale("log")
        row[1].set(xlabel=_cost_label(by))
        for axis in row:
            axis.spines[["top", "right"]].set_visible(False)
        row[0].legend(frameon=False, fontsize=9)
    if path is not None:
        fig.savefig(path, dpi=150)
    return fig


def look_of(number: int) -> dict[str, Any]:
    """Colour and marker of a strategy."""
    marker = _MARKERS[number // len(_COLOURS) % len(_MARKERS)]
    return {"color": _COLOURS[number % len(_COLOURS)], "marker": marker}


def _draw(
    results: Results,
    cells: Sequence[Cell],
    row: Any,
    by: str,
    look: dict[str, Any],
    name: str,
    beside: float,
) -> None:
    solved = [results.solved(cell) for cell in cells]
    accuracy = np.array([s.mean() for s in solved])
    low, high = np.array([bootstrap_interval(s) for s in solved]).T
    costs = [results.per_problem(c, lambda r: counted(r.counted, by)).mean() for c in cells]
    for axis, x in zip(row, ([budget_size(c[2]) for c in cells], costs), strict=True):
        if min(x) <= 0:  # all problems failed: there is no place for it on a logarithmic axis
            continue
        axis.plot(x, accuracy, label=name, markersize=5, linewidth=1.8, **look)
        # beside each other, so that they can be told apart
        axis.vlines(
            np.multiply(x, beside), low, high, color=look["color"], alpha=0.5, linewidth=1.5
        )


def _cost_label(by: str) -> str:
    if by == "tokens":
        return "tokens per problem, written or read by any model"
    return f"{by.replace('_', ' ')} per problem"
