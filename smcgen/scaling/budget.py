"""How much a strategy may spend on a prompt."""

from dataclasses import dataclass, fields
from numbers import Integral, Real
from typing import Any

from smcgen.errors import InvalidArgument


@dataclass(frozen=True)
class Budget:
    """Hard limits per prompt: none is ever exceeded, whichever comes first ends the search.

    Attributes:
        rollouts: texts; for a population of particles their number.
        tokens: tokens drawn from the base model.
        reward_calls: texts or prefixes that rewards are asked to score.
        seconds: wall time, looked at before each step, so that a step that has begun is finished.

    A limit that is hit on the way gives `Status.BUDGET_EXHAUSTED` and what there is by then. `tokens` without
    `rollouts` buy as many texts as could all be of full length. Strategies of independent texts spend what shorter ones
    leave on further texts and tree search on further steps; of the others it stays unspent.
    """

    rollouts: int | None = None
    tokens: int | None = None
    reward_calls: int | None = None
    seconds: float | None = None

    def __post_init__(self) -> None:
        for limit in fields(self):
            value: Any = getattr(self, limit.name)
            kind, allowed = Integral, "an integer >= 1"
            if limit.name == "seconds":
                kind, allowed = Real, "a number > 0"
            known = value is None or (isinstance(value, kind) and not isinstance(value, bool))
            if not known or (value is not None and value <= 0):
                raise InvalidArgument(limit.name, value, allowed)
        if self.rollouts is self.tokens is self.reward_calls is None:
            allowed = "rollouts, tokens or reward_calls: seconds alone do not say how many texts"
            raise InvalidArgument("budget", self, allowed)

    def texts(self, max_tokens: int, calls: int) -> int:
        """How many texts may be begun at once, each of at most `max_tokens` tokens and `calls` reward calls.

        With `rollouts` that many, though no more than can have a token and a call each; else as many as can be
        afforded at full length, and at least one, which is cut short then.
        """
        if self.rollouts is not None:
            others = (self.tokens, self.reward_calls if calls else None)
            return min([self.rollouts, *(x for x in others if x is not None)])
        afforded = []
        if self.tokens is not None:
            afforded.append(self.tokens // max_tokens)
        if self.reward_calls is not None and calls:
            afforded.append(self.reward_calls // calls)
        return max(1, min(afforded, default=1))


def as_budget(budget: Any) -> Budget:
    """A budget as it is, or a number of rollouts.

    Raises:
        InvalidArgument: it is neither, or zero.
    """
    if isinstance(budget, Budget):
        return budget
    if isinstance(budget, bool) or not isinstance(budget, Integral) or budget < 1:
        raise InvalidArgument("budget", budget, "a number of rollouts >= 1, or a Budget")
    return Budget(rollouts=int(budget))
