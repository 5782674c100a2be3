"""What is remembered of one problem, solved by one strategy at one budget with one seed."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from smcgen.core.cost import Cost
from smcgen.scaling.budget import Budget


class Key(NamedTuple):
    """What a record is about."""

    problem: str
    reward: str | None
    strategy: str
    budget: str
    seed: int


@dataclass(frozen=True)
class Record:
    """One line of `records.jsonl`.

    Attributes:
        problem, digest: the problem's id, and a hash of its prompt and answer.
        reward: the reward's name; None for a strategy that has no use for one.
        strategy, budget, seed: what solved it; the budget as `budget_name` writes it.
        expected: the right answer; answer: the one that was chosen; right: whether it is.
        text: the text that was chosen.
        texts: all of them, unless only the chosen one was to be kept; answers, weights, scores, correct: of
            all of them.
        confidence: probability of the answer in the answers' posterior.
        cost: counted work, see `Cost`; `tokens_prefilled` and reward tokens are this problem's share of its batch's.
        status: a `Status` name, or FAILED.
        error: why it failed, None if it did not; a failed problem counts as not solved, and the next run tries again.
        attempts: how often it was tried.
    """

    problem: str
    digest: str
    reward: str | None
    strategy: str
    budget: str
    seed: int
    expected: str
    answer: str | None = None
    right: bool = False
    text: str | None = None
    texts: Sequence[str] | None = None
    answers: Sequence[str | None] = ()
    weights: Sequence[float | None] = ()
    scores: Sequence[float | None] = ()
    correct: Sequence[bool] = ()
    confidence: float | None = None
    cost: Mapping[str, Any] | None = None
    status: str = "OK"
    error: str | None = None
    attempts: int = 1

    @property
    def key(self) -> Key:
        """What it is about."""
        return Key(self.problem, self.reward, self.strategy, self.budget, self.seed)

    @property
    def counted(self) -> Cost:
        """Its cost."""
        return Cost(**(self.cost or {}))

    def line(self) -> str:
        """As a line of JSON."""
        return json_line(asdict(self))

    @classmethod
    def read(cls, line: str) -> "Record":
        """From a line of JSON.

        Raises:
            ValueError: it is not one.
        """
        row = json.loads(line)
        known = {f.name for f in fields(cls)}
        if not isinstance(row, dict) or not {"problem", "strategy", "budget", "seed"} <= row.keys():
            raise ValueError("expected a record")
        try:
            return cls(**{k: v for k, v in row.items() if k in known})
        except TypeError as error:
            raise ValueError(str(error)) from error


def budget_name(budget: Budget) -> str:
    """A budget as records name it: "16", or "tokens=512,reward_calls=64"."""
    limits = {k: v for k, v in asdict(budget).items() if v is not None}
    if limits.keys() == {"rollouts"}:
        return str(budget.rollouts)
    return ",".join(f"{k}={v:g}" if isinstance(v, float) else f"{k}={v}" for k, v in limits.items())


def budget_size(name: str) -> float:
    """The number that budgets are ordered by: the first limit."""
    return float(name.partition(",")[0].rpartition("=")[2])


def json_line(row: Mapping[str, Any]) -> str:
    """A line of JSONL. JSON has no NaN and no infinity: they are null."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {k: plain(v) for k, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    return json.dumps(plain(row), allow_nan=False) + "\n"
