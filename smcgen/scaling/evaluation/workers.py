"""Who solves the units: this process, or (`actors`) others."""

from collections.abc import Iterator
from typing import Any, Protocol

from smcgen.scaling.evaluation.records import Record
from smcgen.scaling.evaluation.solver import Solver
from smcgen.scaling.evaluation.units import Unit


class Workers(Protocol):
    """A context manager around the work."""

    def open(self, solver: Solver) -> dict[str, Any]:
        """Get ready; what identifies engine and rewards."""
        ...

    def solve(self, units: Iterator[Unit]) -> Iterator[list[Record]]:
        """Records as they are finished, in any order."""
        ...

    def __enter__(self) -> "Workers": ...

    def __exit__(self, *error: Any) -> None: ...


class Here:
    """This process, one unit after another."""

    def open(self, solver: Solver) -> dict[str, Any]:
        """Load the engine and the rewards."""
        self._solver = solver
        return solver.open()

    def solve(self, units: Iterator[Unit]) -> Iterator[list[Record]]:
        """Records as they are finished."""
        for unit in units:
            yield from self._solver.solve(unit)

    def __enter__(self) -> "Here":
        return self

    def __exit__(self, *error: Any) -> None:
        """Nothing is held."""
