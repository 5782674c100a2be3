"""Scale-out: problems spread over Ray actors, each with an engine of its own (extra `ray`).

What a problem gives depends on its seed and id alone, so neither the number of actors nor which of them solves what,
nor the death of one, changes a result. Records are written by the process that hands out the work.
"""

import logging
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from smcgen.errors import InvalidArgument, MissingExtra
from smcgen.scaling.evaluation.journal import EvaluationError
from smcgen.scaling.evaluation.records import Record
from smcgen.scaling.evaluation.solver import Solver
from smcgen.scaling.evaluation.units import Unit


class Actor:
    """What runs in an actor's process."""

    def __init__(self, solver: Solver):
        self._solver = solver
        self._settings = solver.open()

    def settings(self) -> dict[str, Any]:
        """What identifies its engine and rewards."""
        return self._settings

    def solve(self, unit: Unit) -> list[Record]:
        """The records of a unit."""
        return [record for records in self._solver.solve(unit) for record in records]


@dataclass
class RayWorkers:
    """Actors on a Ray cluster. An actor that dies is replaced, and only the problems it had in hand are run again.

    Args:
        address: of the cluster; "auto" for the one this machine belongs to, "local" to start one here.
        actors: how many; None: one per GPU, or per CPU where there is no GPU.
        gpus, cpus: of each actor; `gpus=None` is 1 where there are any.
        deaths: how many actors may die before it is given up.

    An engine that is loaded is sent to every actor; better hand over a `Later`, which each actor makes for itself.

    Raises:
        MissingExtra: without Ray.
        EvaluationError: the cluster cannot be reached, or actors keep dying.
    """

    address: str = "auto"
    actors: int | None = None
    gpus: float | None = field(default=None, kw_only=True)
    cpus: float = field(default=1.0, kw_only=True)
    deaths: int = field(default=3, kw_only=True)

    def __post_init__(self) -> None:
        if self.actors is not None and self.actors < 1:
            raise InvalidArgument("actors", self.actors, "None or an integer >= 1")
        self._ours = False
        self._crew: list[Any] = []

    def __enter__(self) -> "RayWorkers":
        try:
            import ray
        except ImportError as error:
            raise MissingExtra("RayWorkers", "ray", "ray") from error
        if not ray.is_initialized():
            own: dict[str, Any] = {"include_dashboard": False} if self.address == "local" else {}
            quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
            try:
                ray.init(address=self.address, **quiet, **own)
            except (ConnectionError, ValueError, RuntimeError) as error:
                raise EvaluationError(f"no Ray cluster at {self.address!r}: {error}") from error
            self._ours = True
        return self

    def __exit__(self, *_: Any) -> None:
        import ray

        for actor in self._crew:
            ray.kill(actor)
        self._crew = []
        if self._ours:
            ray.shutdown()
            self._ours = False

    def open(self, solver: Solver) -> dict[str, Any]:
        """Start the actors; each loads its engine."""
        import ray

        resources = ray.cluster_resources()
        per_actor = (1.0 if resources.get("GPU") else 0.0) if self.gpus is None else self.gpus
        unit, own = ("GPU", per_actor) if per_actor else ("CPU", self.cpus)
        count = self.actors or max(1, int(resources.get(unit, 1) // own))
        kind = ray.remote(num_cpus=self.cpus, num_gpus=per_actor)(Actor)
        self._hire = lambda: kind.remote(solver)
        self._crew = [self._hire() for _ in range(count)]
        return self._of_a_living_one(lambda actor: actor.settings.remote())

    def solve(self, units: Iterator[Unit]) -> Iterator[list[Record]]:
        """Records unit by unit, as they are finished.

        Raises:
            EvaluationError: too many problems fail, or actors die.
        """
        import ray
        from ray.exceptions import RayActorError

        again: deque[Unit] = deque()
        at_work: dict[Any, tuple[int, Unit]] = {}
        idle = list(range(len(self._crew)))
        while True:
            while idle and (unit := again.popleft() if again else next(units, None)) is not None:
                worker = idle.pop()
                at_work[self._crew[worker].solve.remote(unit)] = worker, unit
            if not at_work:
                return
            (ready, *_), _ = ray.wait(list(at_work), num_returns=1)
            worker, unit = at_work.pop(ready)
            try:
                records = self._got(ready)
            except RayActorError as error:
                again.append(unit)
                self._replace(worker, error)
            else:
                yield records
            idle.append(worker)

    def _of_a_living_one(self, ask: Any) -> Any:
        from ray.exceptions import RayActorError

        while True:
            try:
                return self._got(ask(self._crew[0]))
            except RayActorError as error:
                self._replace(0, error)

    def _got(self, reference: Any) -> Any:
        """What an actor returned or raised."""
        import ray
        from ray.exceptions import RayTaskError

        try:
            return ray.get(reference)
        except RayTaskError as error:
            raise error.cause if isinstance(error.cause, Exception) else error from None

    def _replace(self, worker: int, error: Exception) -> None:
        self.deaths -= 1
        if self.deaths < 0:
            raise EvaluationError(f"actors keep dying, the last by {error}") from error
        self._crew[worker] = self._hire()
