"""What the demo leaves behind: a table, a figure and a readable trace."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.table import Table

from smcgen.demo.solve import Outcome
from smcgen.errors import MissingExtra
from smcgen.scaling.evaluation.statistics import bootstrap_interval
from smcgen.text.result import SteerResult

# Okabe and Ito's colours, told apart by colour-blind readers too
COLOURS = {
    "greedy": "#999999",
    "majority": "#56B4E9",
    "best-of-N": "#E69F00",
    "weighted best-of-N": "#009E73",
    "particle filter": "#D55E00",
}


def table(outcomes: Sequence[Outcome]) -> Table:
    """Accuracy with its 95 % bootstrap interval, and counted cost, per method and N."""
    shown = Table(
        title="accuracy with its 95 % bootstrap interval over problems",
        caption="tokens: written by the policy; scored: read by the reward",
    )
    for name in ("method", "N", "accuracy", "interval", "tokens", "scored", "seconds"):
        shown.add_column(name, justify="left" if name == "method" else "right", no_wrap=True)
    for o in outcomes:
        low, high = bootstrap_interval(o.solved)
        bold = "bold" if o.method == "particle filter" else ""
        shown.add_row(
            o.method,
            str(o.n),
            f"{o.solved.mean():.3f}",
            f"{low:.2f}-{high:.2f}",
            str(o.cost.tokens_generated),
            str(o.cost.reward_tokens),
            f"{o.cost.seconds:.1f}",
            style=bold,
        )
    return shown


def write_json(outcomes: Sequence[Outcome], path: Path) -> None:
    """The table as data."""
    rows = []
    for o in outcomes:
        low, high = bootstrap_interval(o.solved)
        row = {
            "method": o.method,
            "n": o.n,
            "accuracy": float(o.solved.mean()),
            "interval": [low, high],
        }
        rows.append(row | {"problems": len(o.solved), "cost": vars(o.cost)})
    path.write_text(json.dumps(rows, indent=2) + "\n")


def figure(outcomes: Sequence[Outcome], run: SteerResult, path: Path) -> None:
    """Accuracy against N for each method; ESS and genealogy of one particle filter run."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("the figure", "matplotlib", "plot") from error
    from smcgen.diagnostics.plots import plot_result

    fig = Figure(figsize=(14, 6), layout="constrained")
    grid = fig.add_gridspec(3, 2, width_ratios=(1, 1.15), height_ratios=(1, 1, 1.8))
    left = fig.add_subplot(grid[:, 0])
    for method, colour in COLOURS.items():
        points = [o for o in outcomes if o.method == method]
        accuracy = np.array([o.solved.mean() for o in points])
        if method == "greedy":
            left.axhline(accuracy[0], color=colour, linestyle=":", label=method)
            continue
        n = [o.n for o in points]
        low, high = np.array([bootstrap_interval(o.solved) for o in points]).T
        wide = 2.5 if method == "particle filter" else 1.5
        left.plot(n, accuracy, "o-", color=colour, label=method, linewidth=wide)
        left.fill_between(n, low, high, color=colour, alpha=0.10, linewidth=0)
    problems = len(outcomes[0].solved)
    left.set_xscale("log", base=2)
    ns = sorted({o.n for o in outcomes if o.method != "greedy"})
    left.set_xticks(ns, [str(n) for n in ns])
    left.set(
        xlabel="N, samples per problem", ylabel="accuracy", title=f"{problems} held-out problems"
    )
    left.legend(frameon=False, fontsize=9)
    left.spines[["top", "right"]].set_visible(False)
    panels = [fig.add_subplot(grid[row, 1]) for row in range(3)]
    panels[0].set_title(
        f"One filter run, {run.prompt.text.strip()}", fontsize=11, loc="left", pad=18
    )
    plot_result(run.smc, ax=panels)
    fig.savefig(path, dpi=150)
