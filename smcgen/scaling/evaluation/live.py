"""The evaluation while it runs: how far each strategy is, and how it does so far."""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from rich.console import Group
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from smcgen.scaling.evaluation.records import Record
from smcgen.scaling.evaluation.units import Plan


class LiveTable:
    """A table of accuracy so far with a bar below it, on a terminal; nothing anywhere else, or if not `shown`."""

    def __init__(self, plan: Plan, done: Iterable[Record], shown: bool):
        self._plan = plan
        self._counts: dict[tuple[Any, ...], list[int]] = defaultdict(lambda: [0, 0, 0])
        columns = (TextColumn("problems"), BarColumn(), MofNCompleteColumn())
        self._bar = Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn())
        self._task = self._bar.add_task("problems", total=len(plan))
        self._live = Live(get_renderable=self._render, refresh_per_second=2) if shown else None
        ids, cells = {p.id for p in plan.task}, set(plan.cells())
        mine = lambda r: r.problem in ids and r.seed in plan.seeds and _cell(r) in cells
        self.add([record for record in done if record.error is None and mine(record)])

    def add(self, records: Iterable[Record]) -> None:
        """These problems are done."""
        for record in records:
            counts = self._counts[_cell(record)]
            counts[0] += record.right
            counts[1] += 1
            counts[2] += record.error is not None
            self._bar.advance(self._task)

    def _render(self) -> Group:
        table = Table(title=f"{self._plan.task.name}: accuracy so far (problems)")
        rewards = len(self._plan.rewards) > 1
        table.add_column("strategy", no_wrap=True)
        for budget in self._plan.budgets:
            table.add_column(budget, justify="right", no_wrap=True)
        names = dict.fromkeys((reward, name) for reward, name, _ in self._plan.cells())
        for reward, name in names:
            shown = [self._shown((reward, name, budget)) for budget in self._plan.budgets]
            both = f"{name} ({reward})" if rewards and reward else name
            table.add_row(escape(both), *shown)
        return Group(table, self._bar)

    def _shown(self, cell: tuple[Any, ...]) -> str:
        right, count, failed = self._counts[cell]
        if not count:
            return "-"
        return f"{right / count:.3f} ({count})" + (f" [red]{failed} failed[/red]" * bool(failed))

    def __enter__(self) -> "LiveTable":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._live is not None:
            self._live.stop()


def _cell(record: Record) -> tuple[str | None, str, str]:
    return record.reward, record.strategy, record.budget
