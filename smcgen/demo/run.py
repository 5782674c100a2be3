"""`smcgen demo`."""

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from smcgen.demo import report
from smcgen.demo.solve import Outcome, solve
from smcgen.scaling.evaluation.tasks import load_task
from smcgen.shipped import shipped
from smcgen.text.engines.transformers import Transformers
from smcgen.text.result import SteerResult
from smcgen.text.rewards import ProcessReward


def demo(
    problems: int = 100,
    ns: Sequence[int] = (1, 4, 16),
    seed: int = 0,
    out: Path = Path("runs/demo"),
    reward: str = "tape-prm-good",
    console: Console | None = None,
) -> list[Outcome]:
    """Compare greedy, majority, best-of-N, weighted best-of-N and the particle filter.

    Writes `results.json`, `accuracy.png` and `trace.txt` into `out` and prints the table.
    """
    console = console or Console()
    # 1600 texts at once keep two threads busy; more would only wait, as these matrices are small
    torch.set_num_threads(min(2, os.cpu_count() or 1))
    out.mkdir(parents=True, exist_ok=True)
    held_out = load_task(shipped("data/tape.jsonl")).where(ops=8).first(problems).problems
    engine, prm = Transformers(shipped("tape-policy")), ProcessReward(shipped(reward))
    console.print(
        f"{len(held_out)} held-out problems of 8 operations, such as "
        f"[bold]{str(held_out[0].prompt).strip()}[/bold]; "
        f"policy {engine.name.split('@')[0]}, process reward {reward}"
    )
    outcomes: list[Outcome] = []
    filtered: list[SteerResult] = []
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    # work grows with N: the bar counts samples
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("greedy", total=1 + 2 * sum(ns))
        for new, runs in solve(held_out, engine, prm, ns, seed):
            outcomes += new
            filtered = runs
            label = f"N={new[-1].n} {new[-1].method} done"
            bar.update(task, advance=new[-1].n, description=label)
    console.print(report.table(outcomes))
    report.write_json(outcomes, out / "results.json")
    shown = most_telling(filtered)
    (out / "trace.txt").write_text(shown.trace() + "\n")
    report.figure(outcomes, shown, out / "accuracy.png")
    console.print(shown.trace(limit=3), markup=False, highlight=False)
    console.print(f"written: {out}/results.json, {out}/accuracy.png, {out}/trace.txt")
    return outcomes


def most_telling(runs: Sequence[SteerResult]) -> SteerResult:
    """The run in which most particles died: there is something to see in its trace."""
    return min(runs, key=lambda r: float(np.mean(np.asarray(r.smc.ess))))
