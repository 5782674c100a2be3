"""Figures of a run: is the population alive, how did the evidence come about, who descends from whom.

Read them in this order. ESS near 1 says that one particle carries all weight. A jump of the evidence
says where the target and the proposal disagree. A genealogy that narrows to one line early says that
early states are estimated from one sample only, however large n is.
"""

from os import PathLike
from typing import Any

import numpy as np

from smcgen.core.result import SMCResult
from smcgen.diagnostics._select import Run, one_problem, survivors, tidy_positions
from smcgen.errors import InvalidArgument, MissingExtra

# Okabe and Ito (2008): told apart by colour-blind people, and in print.
_BLUE, _VERMILLION, _GREY = "#0072B2", "#D55E00", "#999999"
_MOST_DEAD_LINES = 6000


def plot_result(
    result: SMCResult,
    path: str | PathLike[str] | None = None,
    *,
    ax: Any = None,
    problem: int | None = None,
) -> Any:
    """Draw ESS, cumulative log evidence and genealogy of a run, one below the other.

    Args:
        result: what `smcgen.smc` returned; with `keep="summary"` there is no genealogy.
        path: also save the figure there; the ending says the format.
        ax: matplotlib axes to draw into, one for each panel; default: a new figure.
        problem: which problem, if the run has several.

    Returns:
        The matplotlib `Figure`.

    Raises:
        MissingExtra: matplotlib is not installed.
        InvalidArgument: no such problem, or not one axes for each panel.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("a figure of a run", "matplotlib", "plot") from error
    run = one_problem(result, problem)
    panels = [_ess, _evidence] if run.ancestors is None else [_ess, _evidence, _genealogy]
    if ax is None:
        heights = [1.0, 1.0, 1.8][: len(panels)]
        # not through pyplot: no window, no global list of figures
        figure = Figure(figsize=(7.0, 2.1 * sum(heights)), layout="constrained")
        ax = figure.subplots(len(panels), sharex=True, height_ratios=heights)
    axes = list(np.ravel(np.asarray(ax, object)))
    if len(axes) != len(panels):
        raise InvalidArgument("ax", f"{len(axes)} axes", f"{len(panels)} axes, one for each panel")
    for panel, axis in zip(panels, axes, strict=True):
        panel(axis, run)
        axis.spines[["top", "right"]].set_visible(False)
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.margins(x=0.02)
    axes[-1].set_xlabel("step $t$")
    figure = axes[0].figure
    if path is not None:
        figure.savefig(path, dpi=150)
    return figure


def _ess(axis: Any, run: Run) -> None:
    n = len(run.log_weights)
    axis.plot(run.ess, color=_BLUE, marker="o" if len(run.ess) == 1 else None)
    before = np.flatnonzero(run.resampled)
    label = f"resampled ({len(before)} of {len(run.resampled)} steps)"
    if len(before):
        style = {"linestyle": "none", "marker": "o", "markersize": 4, "clip_on": False, "zorder": 3}
        axis.plot(before, run.ess[before], color=_VERMILLION, label=label, **style)
        axis.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, borderaxespad=0.2)
    axis.set_ylim(0, n)
    axis.set_ylabel(f"ESS\n(of {n} particles)")


def _evidence(axis: Any, run: Run) -> None:
    steps = np.arange(len(run.log_evidence))
    finite = np.isfinite(run.log_evidence)
    axis.plot(
        steps[finite],
        run.log_evidence[finite],
        color=_BLUE,
        marker="o" if finite.sum() == 1 else None,
    )
    if finite.all():
        last = run.log_evidence[-1]
        error = "(error unknown: too few founders)"
        if np.isfinite(run.stderr):
            axis.errorbar(steps[-1], last, run.stderr, color=_BLUE, capsize=3, clip_on=False)
            error = f"± {run.stderr:.2f}"
        said = f"$\\log\\hat Z = {last:.2f}$ {error}"
    else:
        first = int(np.argmin(finite))
        axis.axvline(first, color=_VERMILLION, linewidth=1)
        value = "-\\infty" if run.log_evidence[first] < 0 else "\\mathrm{NaN}"
        said = f"$\\log\\hat Z = {value}$ from step {first}"
    axis.annotate(said, (1, 1), xycoords="axes fraction", ha="right", va="bottom")
    axis.set_ylabel("log evidence\nup to $t$ (nats)")


def _genealogy(axis: Any, run: Run) -> None:
    from matplotlib.collections import LineCollection

    assert run.ancestors is not None
    n, steps = len(run.log_weights), len(run.ancestors)
    place = tidy_positions(run.ancestors)
    survives = survivors(run.ancestors, run.log_weights > -np.inf)
    times = np.broadcast_to(np.arange(steps)[:, None], (steps, n))
    start = np.stack([times, np.take_along_axis(place[:-1], run.ancestors, 1)], -1)
    lines = np.stack([start, np.stack([times + 1, place[1:]], -1)], 2).astype(float)
    alive, dead = lines[survives[1:]], lines[~survives[1:]]
    if len(dead) > _MOST_DEAD_LINES:
        chosen = np.random.default_rng(0).choice(len(dead), _MOST_DEAD_LINES, replace=False)
        dead = dead[chosen]
    thin = float(np.clip(30 / n, 0.15, 1.0))  # line widths for few particles, and for many
    large = n * steps > 2000
    axis.add_collection(
        LineCollection(
            list(dead), colors=_GREY, linewidths=0.9 * thin, alpha=0.55, rasterized=large
        )
    )
    axis.add_collection(
        LineCollection(
            list(alive), colors=_BLUE, linewidths=2.2 * max(thin, 0.3), zorder=3, rasterized=large
        )
    )
    if n <= 30:
        for which, colour, size in ((~survives, _GREY, 4), (survives, _BLUE, 10)):
            t, i = np.nonzero(which[:-1])
            axis.scatter(t, place[t, i], size, colour, linewidths=0, zorder=4)
    if n <= 100:
        weight = np.exp(run.log_weights)
        area = min(1.0, 8 / n) * (8 + 200 * weight / weight.max())
        axis.scatter(
            np.full(n, steps), place[-1], area, _BLUE, linewidths=0, zorder=5, clip_on=False
        )
    founders = int(survives[0].sum())
    word = "founder" if founders == 1 else "founders"
    dots = "  (last dot: weight)" if n <= 100 else ""
    said = f"{founders} {word} of {n} with living descendants{dots}"
    axis.annotate(said, (1, 1), xycoords="axes fraction", ha="right", va="bottom", color=_BLUE)
    axis.annotate("lines that end", (0, 1), xycoords="axes fraction", va="bottom", color="#767676")
    axis.set_ylim(-0.5 - 0.01 * n, n - 0.5 + 0.01 * n)
    axis.set_xlim(0, max(steps, 1))
    axis.set_yticks([])
    axis.set_ylabel("genealogy\n(particles, ordered by descent)")
