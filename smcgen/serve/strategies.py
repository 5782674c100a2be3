"""The strategies of `smcgen.scaling`, as a request asks for them.

There is one registry, `smcgen.scaling.STRATEGIES`; a strategy added there is served. What is here is which fields of a
request mean something to which strategy, and what a server must have been started with.
"""

from dataclasses import dataclass, fields, replace
from typing import Any

from smcgen import scaling
from smcgen.errors import InvalidArgument, UnknownName
from smcgen.scaling.outcome import Outcome
from smcgen.serve.steering import Callback, Steering
from smcgen.text.steps import Step

# where no reward asks for steps: how often a run can be watched and stopped
_WATCHED = Step(tokens=32)


@dataclass(frozen=True)
class Strategy:
    """A strategy that is served.

    Attributes:
        strategy: with its own options.
        uses: fields of a request that mean something to it; others are refused, not ignored.
    """

    strategy: scaling.Strategy
    uses: frozenset[str]

    @property
    def needs_reward(self) -> bool:
        """Whether the server must have a reward."""
        return self.strategy.needs_reward

    @property
    def needs_answer(self) -> bool:
        """Whether the server must know how answers are read."""
        return self.strategy.needs_answer

    def lacks(self, reward: Any, answer: Any) -> str:
        """What a server with this reward and extractor lacks for it; empty if nothing."""
        if self.needs_reward and reward is None:
            return "reward"
        return "answer" if self.needs_answer and answer is None else ""

    def run(self, steering: Steering, callback: Callback) -> Outcome:
        """Steer a request; `callback` is how a run is stopped."""
        options = dict(steering.options)
        changes = {
            name: options.pop(name) for name in ("strength", "ess_threshold") if name in options
        }
        if not self.needs_reward:
            options["step"] = _WATCHED
        return replace(self.strategy, **{k: v for k, v in changes.items() if k in self.uses}).run(
            steering.engine,
            steering.prompt,
            steering.reward if self.needs_reward else None,
            scaling.Budget(rollouts=steering.n_particles, tokens=steering.tokens),
            key=steering.seed,
            writing=scaling.Writing(answer=steering.extract, **options),
            callback=callback,
        )


def _served(strategy: type[scaling.Strategy]) -> Strategy:
    own, made = {field.name for field in fields(strategy)}, strategy()
    uses = {"ess_threshold"} & own
    if made.needs_reward:
        uses |= {"strength", "step"} & (own | {"step"})
    if strategy is not scaling.Sample:  # of which there are as many texts as are asked for
        uses |= {"n_particles", "budget"}
    return Strategy(made, frozenset(uses))


STRATEGIES: dict[str, Strategy] = {
    name: _served(strategy) for name, strategy in scaling.STRATEGIES.items()
}


def find(name: str, reward: Any, answer: Any) -> Strategy:
    """A strategy by name.

    Raises:
        UnknownName: there is none; the message lists what there is.
        InvalidArgument: the server was started without what it needs.
    """
    if name not in STRATEGIES:
        raise UnknownName("strategy", name, STRATEGIES)
    lacking = STRATEGIES[name].lacks(reward, answer)
    if lacking:
        usable = [repr(k) for k, known in STRATEGIES.items() if not known.lacks(reward, answer)]
        allowed = f"one of {', '.join(usable)} on a server without --{lacking}"
        raise InvalidArgument("strategy", name, allowed)
    return STRATEGIES[name]
