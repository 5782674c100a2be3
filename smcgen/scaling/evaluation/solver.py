"""Solving a unit: one engine call, and what to do when it fails."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from smcgen.core.status import Status
from smcgen.scaling.base import together
from smcgen.scaling.evaluation.journal import EvaluationError
from smcgen.scaling.evaluation.later import made
from smcgen.scaling.evaluation.records import Record
from smcgen.scaling.evaluation.tasks.problem import short_hash
from smcgen.scaling.evaluation.timed import Timed
from smcgen.scaling.evaluation.units import Unit, problem_keys
from smcgen.scaling.outcome import Outcome
from smcgen.scaling.writing import Writing
from smcgen.text.identity import identity
from smcgen.text.potentials.algebra import as_potential
from smcgen.text.steer import as_engine

_FINE = (Status.OK, Status.BUDGET_EXHAUSTED, Status.ALL_WEIGHTS_ZERO)


@dataclass
class Solver:
    """An engine and rewards at work.

    A call that fails is made again on each half of its problems, until it is known which of them fails (a batch that
    is too large for the memory gets through so, too). That one is tried again, and then recorded as failed.

    Attributes:
        engine, rewards, writing: see `evaluate`.
        retries: how often a problem that fails alone is tried again.
        patience: so many problems in a row that fail end the evaluation: something else is wrong.
        keep_texts: record all texts, or only the chosen one.
        reward_timeout: seconds that one call of a reward may take; None: any number.
    """

    engine: Any
    rewards: Mapping[str, Any]
    writing: Writing
    retries: int = 1
    patience: int = 10
    keep_texts: bool = True
    reward_timeout: float | None = None
    _failures: int = field(default=0, init=False)

    def open(self) -> dict[str, Any]:
        """Make what is to be made where it is used; what identifies the engine and the rewards."""
        self.engine = as_engine(made(self.engine))
        self.rewards = {name: as_potential(made(r)) for name, r in self.rewards.items()}
        known = {name: short_hash(identity(r)) for name, r in self.rewards.items()}
        limit = self.reward_timeout
        if limit is not None:
            self.rewards = {name: Timed(r, limit) for name, r in self.rewards.items()}
        return {"engine": self.engine.name, "rewards": known}

    def solve(self, unit: Unit) -> Iterator[list[Record]]:
        """Records, some problems at a time.

        Raises:
            EvaluationError: too many problems failed one after another.
        """
        try:
            outcomes = self._run(unit)
        except Exception as error:
            if len(unit.problems) > 1:
                half = len(unit.problems) // 2
                for some in (unit.problems[:half], unit.problems[half:]):
                    yield from self.solve(replace(unit, problems=some))
            else:
                yield self._alone(unit, error)
            return
        yield self._records(unit, outcomes, 1)

    def _run(self, unit: Unit) -> list[list[Outcome]]:
        """Each strategy's outcomes."""
        reward = None if unit.reward is None else self.rewards[unit.reward]
        prompts, budget = [p.prompt for p in unit.problems], unit.budget
        keys = problem_keys(unit.seed, unit.problems)
        options: dict[str, Any] = {"key": keys, "writing": self.writing}
        strategies = list(unit.strategies.values())
        if len(strategies) == 1:  # which may have a `run` of its own
            found = [strategies[0].run(self.engine, prompts, reward, budget, **options)]
        else:
            found = together(strategies, self.engine, prompts, reward, budget, **options)
        if any(outcome.status is Status.INTERRUPTED for outcome in found[0]):
            raise KeyboardInterrupt  # half a run is no measurement
        return found

    def _alone(self, unit: Unit, error: Exception) -> list[Record]:
        """A problem that has failed on its own."""
        for attempt in range(2, self.retries + 2):
            try:
                return self._records(unit, self._run(unit), attempt)
            except EvaluationError:
                raise
            except Exception as again:
                error = again
        said = f"{type(error).__name__}: {error}"
        self._failed(said, error)
        fields = {"status": "FAILED", "error": said, "attempts": self.retries + 1}
        return [self._blank(unit, name, 0, **fields) for name in unit.strategies]

    def _failed(self, said: str, error: Exception | None = None) -> None:
        self._failures += 1
        if self._failures >= self.patience:
            raise EvaluationError(
                f"{self._failures} problems failed one after another, the last with {said}"
            ) from error

    def _records(
        self, unit: Unit, found: Sequence[Sequence[Outcome]], attempts: int
    ) -> list[Record]:
        records = []
        for i, outcomes in enumerate(zip(*found, strict=True)):
            pairs = zip(unit.strategies, outcomes, strict=True)
            of = [self._record(unit, name, i, outcome, attempts) for name, outcome in pairs]
            records += of
            if failed := [r.status for r in of if r.error is not None]:
                self._failed(failed[0])
            else:
                self._failures = 0
        return records

    def _blank(self, unit: Unit, strategy: str, i: int, **fields: Any) -> Record:
        problem = unit.problems[i]
        key = unit.key(problem, strategy)._asdict()
        return Record(**key, digest=problem.digest, expected=problem.answer, **fields)

    def _record(self, unit: Unit, strategy: str, i: int, outcome: Outcome, attempts: int) -> Record:
        expected = unit.problems[i].answer
        of = outcome.candidates.answers
        answers = list(of if of is not None else map(self._extract, outcome.texts))
        same = self.writing.same
        right = [a is not None and bool(same(a, expected)) for a in answers]
        possible = bool(outcome.weights.sum() > 0)  # else no text is, and so no answer
        answer = answers[outcome.chosen] if possible else None
        fine = outcome.status in _FINE
        return self._blank(
            unit,
            strategy,
            i,
            answer=answer,
            right=possible and fine and right[outcome.chosen],
            text=outcome.text,
            texts=list(outcome.texts) if self.keep_texts else None,
            answers=answers,
            weights=_rounded(outcome.weights),
            scores=_rounded(outcome.scores),
            correct=right,
            confidence=None if answer is None else (outcome.answers or {}).get(answer, 0.0),
            cost=asdict(outcome.cost),
            status=outcome.status.name,
            error=None if fine else f"the run ended with {outcome.status.name}",
            attempts=attempts,
        )

    def _extract(self, text: str) -> str | None:
        extract = self.writing.extract
        return None if extract is None else extract(text)


def _rounded(values: np.ndarray) -> list[float | None]:
    """Seven digits are enough to look at, and half the space; JSON has no NaN."""
    return [float(f"{v:.7g}") if np.isfinite(v) else None for v in values.tolist()]
