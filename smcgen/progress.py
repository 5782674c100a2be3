"""A progress bar for runs that are driven from Python."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn


class ProgressBar:
    """A `smc` callback: steps done, smallest ESS, log-evidence, tokens."""

    def __init__(self, description: str = "particles"):
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[shown]}"),
        )
        self._bar = Progress(*columns, TimeElapsedColumn(), transient=True)
        self._task = self._bar.add_task(description, total=None, shown="")
        self._bar.start()

    def __call__(self, told: Any) -> None:
        ess, z = np.min(np.asarray(told.ess)), np.mean(np.asarray(told.log_evidence))
        shown = f"step {told.t} of at most {told.num_steps}  ESS {ess:.1f}  log Z {z:.2f}"
        if told.cost.tokens_generated:
            shown += f"  {told.cost.tokens_generated} tokens"
        self._bar.update(self._task, completed=told.t, total=told.num_steps, shown=shown)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()


class CountBar:
    """How many of a number of things are done."""

    def __init__(self, description: str, total: int):
        columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed}"))
        self._bar = Progress(
            *columns, TextColumn("of {task.total}"), TimeElapsedColumn(), transient=True
        )
        self._task = self._bar.add_task(description, total=total)
        self._bar.start()

    def __call__(self, done: int) -> None:
        self._bar.update(self._task, completed=done)

    def close(self) -> None:
        """Remove the bar."""
        self._bar.stop()


def counted(number: int, description: str, shown: bool) -> Iterable[int]:
    """`range(number)`, with a progress bar if it is to be shown."""
    if not shown:
        return range(number)
    from rich.progress import track

    return track(range(number), description=description)
