"""Results: records as arrays, and what follows from them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from smcgen.core.cost import Cost
from smcgen.errors import InvalidArgument, UnknownName
from smcgen.scaling.evaluation.journal import read_records
from smcgen.scaling.evaluation.records import Record, budget_size
from smcgen.scaling.evaluation.statistics import (
    Curve,
    PowerLaw,
    Ratio,
    fit_power_law,
    pass_at_k,
    scaling_ratio,
)
from smcgen.scaling.evaluation.units import Plan

Cell = tuple[str | None, str, str]


@dataclass(frozen=True, repr=False)
class Results:
    """All records of an evaluation.

    Attributes:
        cells: records by (reward, strategy, budget), in the order in which tables show them.
        name: of the task.
    """

    cells: Mapping[Cell, Sequence[Record]]
    name: str = ""

    @classmethod
    def of(cls, records: Iterable[Record], name: str = "") -> "Results":
        """Strategies and rewards in the order of the records, budgets by size."""
        found: dict[Cell, list[Record]] = {}
        for record in records:
            found.setdefault((record.reward, record.strategy, record.budget), []).append(record)
        pairs = list(dict.fromkeys(cell[:2] for cell in found))
        order = sorted(found, key=lambda c: (pairs.index(c[:2]), budget_size(c[2])))
        return cls({cell: found[cell] for cell in order}, name)

    @classmethod
    def of_plan(cls, plan: Plan, records: Iterable[Record]) -> "Results":
        """The records of a plan, in its order."""
        ids, cells = {p.id for p in plan.task}, plan.cells()
        found: dict[Cell, list[Record]] = {cell: [] for cell in cells}
        for record in records:
            mine = found.get((record.reward, record.strategy, record.budget))
            if mine is not None and record.problem in ids and record.seed in plan.seeds:
                mine.append(record)
        return cls({cell: rows for cell, rows in found.items() if rows}, plan.task.name)

    @classmethod
    def load(cls, folder: str | Path) -> "Results":
        """The records of a folder."""
        return cls.of(read_records(Path(folder)), Path(folder).name)

    def __iter__(self):
        return (record for rows in self.cells.values() for record in rows)

    def __len__(self) -> int:
        return sum(map(len, self.cells.values()))

    def __repr__(self) -> str:
        pairs = dict.fromkeys(cell[1] for cell in self.cells)
        return f"Results({self.name!r}, {', '.join(pairs)}: {len(self)} records)"

    @cached_property
    def problems(self) -> list[str]:
        """Ids of the problems that every cell has."""
        each = [dict.fromkeys(r.problem for r in rows) for rows in self.cells.values()]
        return [p for p in (each[0] if each else ()) if all(p in ids for ids in each[1:])]

    def per_problem(self, cell: Cell, of: Any) -> Float64[np.ndarray, " problems"]:
        """The mean over seeds of a function of a record, for each of `problems`."""
        sums: dict[str, list[float]] = {problem: [] for problem in self.problems}
        for record in self.cells[cell]:
            if record.problem in sums:
                sums[record.problem].append(float(of(record)))
        return np.array([np.mean(values) for values in sums.values()], np.float64)

    def solved(self, cell: Cell) -> Float64[np.ndarray, " problems"]:
        """Share of seeds that solved each problem."""
        return self.per_problem(cell, lambda record: record.right)

    def budgets(self, strategy: str, reward: str | None = None) -> list[Cell]:
        """The cells of a strategy, by budget; `reward` may be left out where there is one only.

        Raises:
            UnknownName: there are none.
            InvalidArgument: they are of several rewards.
        """
        found = [c for c in self.cells if c[1] == strategy and reward in (None, c[0])]
        if not found:
            raise UnknownName("strategy", strategy, {c[1] for c in self.cells})
        if len({c[0] for c in found}) > 1:
            raise InvalidArgument("reward", reward, f"one of {sorted({str(c[0]) for c in found})}")
        return found

    def curve(self, strategy: str, reward: str | None = None, by: str = "budget") -> Curve:
        """Accuracy against the budget, or against a counted cost, see `counted`."""
        cells = self.budgets(strategy, reward)
        if by == "budget":
            sizes = [budget_size(c[2]) for c in cells]
        else:
            sizes = [
                float(self.per_problem(c, lambda r: counted(r.counted, by)).mean()) for c in cells
            ]
        order = np.argsort(sizes, kind="stable")
        return Curve(np.array(sizes)[order], np.stack([self.solved(cells[i]) for i in order]))

    def scaling_ratio(
        self, reference: str, baseline: str, reward: str | None = None, by: str = "budget"
    ) -> list[Ratio]:
        """How many times the budget `baseline` needs to be as accurate as `reference`, at each of its budgets."""
        one, other = (
            self.curve(name, self._reward_of(name, reward), by) for name in (reference, baseline)
        )
        return scaling_ratio(one, other)

    def coverage(self, strategy: str, reward: str | None = None) -> Float64[np.ndarray, " k"]:
        """pass@k for k = 1 ... texts of a problem, of a strategy whose texts are independent.

        The texts of its largest budget are taken, of all seeds together: they are all draws of one law.
        """
        cell = self.budgets(strategy, reward)[-1]
        n, right = (
            dict.fromkeys(self.problems, 0),
            dict.fromkeys(self.problems, 0),
        )
        for record in self.cells[cell]:
            if record.problem in n:
                n[record.problem] += len(record.correct)
                right[record.problem] += sum(record.correct)
        counts, rights = np.array([*n.values()]), np.array([*right.values()])
        if not counts.min(initial=1):
            raise InvalidArgument("strategy", strategy, "texts for every problem")
        return np.array([pass_at_k(counts, rights, k).mean() for k in range(1, counts.min() + 1)])

    def power_law(self, strategy: str, reward: str | None = None) -> PowerLaw:
        """exp(a k^b) fitted to the coverage at k = 1, 2, 4, ..."""
        coverage = self.coverage(strategy, reward)
        k = 2 ** np.arange(int(np.log2(len(coverage))) + 1)
        return fit_power_law(k, coverage[k - 1])

    def _reward_of(self, strategy: str, reward: str | None) -> str | None:
        """The reward, unless the strategy has no use for one."""
        return reward if any(c[:2] == (reward, strategy) for c in self.cells) else None


def counted(cost: Cost, by: str) -> float:
    """A counted cost: a field of `Cost`, or "tokens": all that any model wrote or read.

    Raises:
        UnknownName: it is neither.
    """
    if by == "tokens":
        return float(cost.tokens_generated + cost.tokens_prefilled + cost.reward_tokens)
    if by not in vars(cost):
        raise UnknownName("by", by, ("budget", "tokens", *vars(cost)))
    return float(getattr(cost, by))
