"""`*`, `**` and `where`: potentials made of potentials."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from smcgen.errors import InvalidArgument
from smcgen.text.factors.base import TokenFactor
from smcgen.text.potentials.base import Potential, Twist
from smcgen.text.potentials.gate import Condition, GatedFactor, GatedTwist

_ALLOWED = "a potential, a reward, a function of a list of texts, or a reward model's name or path"


def as_potential(value: Any) -> Potential:
    """A potential as it is; a function on texts as a reward; a name or path as a process reward."""
    if isinstance(value, Potential):
        return value
    if isinstance(value, str) or hasattr(value, "__fspath__"):
        from smcgen.text.rewards import ProcessReward

        try:
            return ProcessReward(value)
        except InvalidArgument as error:  # "model" would be taken for the one that writes
            if error.name != "model":
                raise
            raise InvalidArgument("reward", error.got, error.allowed) from error
    if callable(value) and not hasattr(value, "forward"):
        from smcgen.text.rewards import FunctionReward

        return FunctionReward(value)
    raise InvalidArgument("reward", value, _ALLOWED)


@dataclass(frozen=True)
class Product(Potential):
    """psi(x) = prod_k psi_k(x)."""

    parts: tuple[Potential, ...]

    def factors(self) -> tuple[TokenFactor, ...]:
        return tuple(f for part in self.parts for f in part.factors())

    def twists(self) -> tuple[Twist, ...]:
        return tuple(w for part in self.parts for w in part.twists())

    def power(self, strength: float) -> Potential:
        return Product(tuple(part.power(strength) for part in self.parts))


def where(
    condition: Callable[[str], bool],
    then: Any,
    otherwise: Any = None,
    *,
    on: Literal["prompt", "text"] = "prompt",
) -> Potential:
    """`then` where the condition holds, `otherwise` (default: 1) where it does not.

    Each is opened and asked for the problems that it concerns only, so a dear reward costs the others nothing.

    Args:
        condition: called with the prompt's text, or with `on="text"` with the completion so far.
        then, otherwise: potentials (or what `as_potential` takes).
        on: what the condition is asked about. Token factors can only depend on the prompt.
    """
    if not callable(condition):
        raise InvalidArgument("condition", condition, "a function of a text")
    if on not in ("prompt", "text"):
        raise InvalidArgument("on", on, "'prompt' or 'text'")
    yes = gated(as_potential(then), Condition(condition, on, True))
    if otherwise is None:
        return yes
    return Product((yes, gated(as_potential(otherwise), Condition(condition, on, False))))


def gated(potential: Potential, condition: Condition) -> Potential:
    """A potential on the texts where a condition holds, 1 on the others."""
    factors, twists = potential.factors(), potential.twists()
    if factors and condition.on == "text":
        raise InvalidArgument("on", "text", "'prompt' for token factors (constraints, experts)")
    gated = (
        *(GatedFactor(f, condition) for f in factors),
        *(GatedTwist(w, condition) for w in twists),
    )
    return Product(gated)
