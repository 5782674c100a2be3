"""How good are the rewards that were compared, and what does each strategy gain from them? (extra `plot`)"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from smcgen.errors import InvalidArgument, MissingExtra
from smcgen.scaling.evaluation.figures import look_of
from smcgen.scaling.evaluation.records import Record, budget_size
from smcgen.scaling.evaluation.results import Results
from smcgen.scaling.evaluation.rows import INDEPENDENT, Row, summary
from smcgen.scaling.evaluation.statistics import auc


def reward_quality(results: Results) -> dict[str, float]:
    """Of each reward the chance that of a right and a wrong text of a problem the right one scores higher.

    The mean over problems that have both, from the final scores of the independent texts of its largest budget; NaN for
    a reward without such texts.
    """
    found: dict[str, float] = {}
    for reward in dict.fromkeys(cell[0] for cell in results.cells if cell[0] is not None):
        mine = [c for c in results.cells if c[0] == reward and c[1].split("[")[0] in INDEPENDENT]
        records = results.cells[max(mine, key=lambda c: budget_size(c[2]))] if mine else ()
        found[reward] = _within_problems(records)
    return found


def _within_problems(records: Sequence[Record]) -> float:
    texts: dict[str, list[tuple[float, bool]]] = {}
    for record in records:
        pairs = zip(record.scores, record.correct, strict=False)
        texts.setdefault(record.problem, []).extend((s, r) for s, r in pairs if s is not None)
    each = [auc(*map(np.array, zip(*pairs, strict=True))) for pairs in texts.values() if pairs]
    known = [value for value in each if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def quality_figure(
    results: Results, path: str | Path | None = None, budget: str | int | None = None
) -> Any:
    """What each strategy gains over one text at a budget, under each reward, in the order of the results.

    Args:
        results: of several rewards.
        path: where to save it, if anywhere; the ending says as what.
        budget: the budget, as records name it; None: the largest one.

    Bars are paired 95 % bootstrap intervals over problems. Strategies without a use for a reward are level lines.

    Raises:
        InvalidArgument: there is no reward, or nothing at that budget, or no independent texts to measure one text by.
        MissingExtra: without matplotlib.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("the figure", "matplotlib", "plot") from error
    budgets = sorted({cell[2] for cell in results.cells}, key=budget_size)
    chosen = budgets[-1] if budget is None else str(budget)
    rows = [row for row in summary(results) if row.budget == chosen]
    quality = reward_quality(results)
    if not quality or not rows or any(np.isnan(row.gain) for row in rows):
        allowed = f"results of rewards and of independent texts, at one of {budgets}"
        raise InvalidArgument("budget", chosen, allowed)
    order = list(quality)
    fig = Figure(figsize=(max(7.0, 3.0 + 1.7 * len(order)), 4.6), layout="constrained")
    axis = fig.subplots()
    names = list(dict.fromkeys(row.strategy for row in rows))
    for number, name in enumerate(names):
        mine = {row.reward: row for row in rows if row.strategy == name}
        _draw(axis, mine, order, look_of(number), name, 0.06 * (number - (len(names) - 1) / 2))
    axis.axhline(0, color="0.6", linewidth=1, zorder=0)
    labels = [f"{_short(reward, order)}\nAUC {quality[reward]:.2f}" for reward in order]
    axis.set_xticks(range(len(order)), labels)
    axis.set(ylabel="accuracy minus that of one text")
    axis.set_title(f"{len(results.problems)} problems of {results.name}, N = {chosen}")
    axis.spines[["top", "right"]].set_visible(False)
    axis.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1.0, 0.5))
    if path is not None:
        fig.savefig(path, dpi=150)
    return fig


def _draw(
    axis: Any,
    rows: dict[str | None, Row],
    order: Sequence[str],
    look: dict[str, Any],
    name: str,
    beside: float,
) -> None:
    known = [(i, rows.get(reward, rows.get(None))) for i, reward in enumerate(order)]
    points = [(i + beside, row) for i, row in known if row is not None]
    x = [i for i, _ in points]
    axis.plot(x, [r.gain for _, r in points], label=name, markersize=5, linewidth=1.5, **look)
    low, high = ([getattr(r, end) for _, r in points] for end in ("gain_low", "gain_high"))
    axis.vlines(x, low, high, color=look["color"], alpha=0.5, linewidth=1.5)


def _short(reward: str, every: Sequence[str]) -> str:
    """What follows the name that a reward and its worse copies share."""
    _, _, knobs = reward.partition(" ")
    alone = len({other.partition(" ")[0] for other in every}) == 1
    return (knobs.replace(",", "\n") or "as it is") if alone else reward.replace(" ", "\n")
