"""What the digits demo leaves behind: a table, and a grid of pictures before and after."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from smcgen.demo.digits import CLASSES, Outcome
from smcgen.errors import MissingExtra
from smcgen.scaling.evaluation.statistics import bootstrap_interval

# Okabe and Ito's colours, told apart by colour-blind readers too
COLOURS = {
    "plain": "#999999",
    "best-of-n": "#E69F00",
    "FK, drawn": "#56B4E9",
    "FK, best": "#D55E00",
}
_RIGHT, _WRONG = "#009E73", "#CC3311"


def table(outcomes: Sequence[Outcome]) -> Table:
    """Hit rate by the judge with its 95 % bootstrap interval, reward, variety and cost."""
    shown = Table(
        title="digits of the wanted class, by a judge that was not steered by",
        caption="nfe: denoiser calls a picture; judged: share that the judge calls right;\n"
        "spread: mean distance of two pictures of one class; time: seconds for all runs",
    )
    names = ("method", "n", "nfe", "judged", "95 %", "reward", "spread", "time")
    for name in names:
        shown.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    for o in outcomes:
        low, high = bootstrap_interval(o.hits)
        shown.add_row(
            o.method,
            str(o.n),
            str(o.nfe),
            f"{o.hits.mean():.3f}",
            f"{low:.2f}-{high:.2f}",
            f"{o.rewards.mean():.2f}",
            f"{o.spread:.2f}",
            f"{o.seconds:.1f} s",
            style="bold" if o.method == "FK, best" else "",
        )
    return shown


def write_json(outcomes: Sequence[Outcome], path: Path) -> None:
    """The table as data."""
    rows = []
    for o in outcomes:
        row = {"method": o.method, "n": o.n, "nfe": o.nfe, "judged_right": float(o.hits.mean())}
        row |= {"interval": list(bootstrap_interval(o.hits)), "runs": len(o.hits)}
        row |= {"reward": float(o.rewards.mean()), "spread": o.spread, "seconds": o.seconds}
        rows.append(row | {"founders": o.founders if np.isfinite(o.founders) else None})
    path.write_text(json.dumps(rows, indent=2) + "\n")


def figure(outcomes: Sequence[Outcome], path: Path) -> None:
    """One picture of each class by each method, n = 1 and the largest; what the judge says, against n."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("the figure", "matplotlib", "plot") from error
    n = max(o.n for o in outcomes)
    shown = [o for o in outcomes if o.n in (1, n) and o.method != "FK, drawn"]
    fig = Figure(figsize=(13, 1.3 + 1.05 * len(shown)), layout="constrained")
    panels: Any = fig.subfigures(1, 2, width_ratios=(2.1, 1))
    left, right = panels
    axes = left.subplots(len(shown), CLASSES, squeeze=False)
    for row, o in zip(axes, shown, strict=True):
        repeats = len(o.hits) // CLASSES
        for c, ax in enumerate(row):
            ax.imshow(o.images[c * repeats], cmap="gray_r", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set(color=_RIGHT if o.hits[c * repeats] else _WRONG, linewidth=2.5)
        row[0].set_ylabel(f"{o.method}\nn = {o.n}", fontsize=10)
    for c, ax in enumerate(axes[0]):
        ax.set_title(str(c))
    left.suptitle("wanted, and what came out (frame: what the judge says)")
    _curves(right.subplots(), outcomes)
    fig.savefig(path, dpi=150)


def _curves(ax: Any, outcomes: Sequence[Outcome]) -> None:
    plain = [o for o in outcomes if o.method == "plain"]
    for method, colour in COLOURS.items():
        points = [o for o in outcomes if o.method == method]
        if method == "plain" or not points:
            continue
        points = plain + points
        nfe = [o.nfe for o in points]
        low, high = np.array([bootstrap_interval(o.hits) for o in points]).T
        ax.plot(nfe, [o.hits.mean() for o in points], "o-", color=colour, label=method)
        ax.fill_between(nfe, low, high, color=colour, alpha=0.12, linewidth=0)
    ax.set_xscale("log", base=2)
    ticks = sorted({o.nfe for o in outcomes})
    ax.set_xticks(ticks, [str(t) for t in ticks])
    ax.set(
        xlabel="denoiser calls a picture", ylabel="judged right", title=f"{len(plain[0].hits)} runs"
    )
    ax.set_ylim(0, 1.02)
    ax.legend(frameon=False, fontsize=9)
    ax.spines[["top", "right"]].set_visible(False)
