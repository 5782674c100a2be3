"""Potentials of a text, and their algebra.

A potential psi >= 0 multiplies the target: `a * b` multiplies two, `a ** s` raises one to the power s (its
strength), `where(condition, a, b)` chooses one. Every potential is a product of two kinds of part:

* token factors (`smcgen.text.factors`), which act on each token as it is drawn;
* twists (`Twist`), which act on a text between steps: `log psi_t(x_{0:t})`, ended by `log psi_T`.

The state-space model asks a potential for its `factors()` and `twists()`, opens each for a population, and
weights a step by `G_t = psi_t / psi_{t-1}` times what the engine reports for the factors.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Float64, Int

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument
from smcgen.text.prompts import Prompt
from smcgen.text.texts import Texts

if TYPE_CHECKING:
    from smcgen.text.factors.base import TokenFactor


class Potential(ABC):
    """Something that weights texts. Composes by `*`, `**` and `where`."""

    def factors(self) -> "tuple[TokenFactor, ...]":
        """The parts that act on every token."""
        return ()

    def twists(self) -> "tuple[Twist, ...]":
        """The parts that act between steps."""
        return ()

    @abstractmethod
    def power(self, strength: float) -> "Potential":
        """psi ** strength."""

    def __mul__(self, other: "Potential | Callable") -> "Potential":
        from smcgen.text.potentials.algebra import Product, as_potential

        return Product((self, as_potential(other)))

    def __rmul__(self, other: "Potential | Callable") -> "Potential":
        from smcgen.text.potentials.algebra import Product, as_potential

        return Product((as_potential(other), self))

    def __pow__(self, strength: Any) -> "Potential":
        if isinstance(strength, bool) or not isinstance(strength, Real):
            raise InvalidArgument("strength", strength, "a number")
        if not np.isfinite(float(strength)):
            raise InvalidArgument("strength", strength, "a finite number")
        return self.power(float(strength))


class TwistSession(Protocol):
    """A twist's state for one population; rows are `problem * n + particle`."""

    def log_psi(self, texts: Texts, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        """log psi_t of these rows, each of which has just ended a step.

        Where `texts.ended[row]`, the value is terminal: log psi_T.
        """
        ...

    def mark(self) -> Any:
        """The state now, for `rewind`."""
        ...

    def rewind(self, mark: Any) -> None:
        """Forget all that was asked since `mark`; nothing was taken or dropped meanwhile."""
        ...

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        """Row i becomes a copy of row `ancestors[i]`."""
        ...

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        """These rows have ended."""
        ...

    def scores(self) -> Float64[np.ndarray, " rows"] | None:
        """Latest raw score of each row, for people to look at; None if there is none."""
        ...

    def dump(self) -> Mapping[str, np.ndarray]:
        """What a checkpoint must hold of this session."""
        ...

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        """What `dump` gave, into a freshly opened session."""
        ...

    def close(self) -> None:
        """Free what the session holds."""
        ...


class Twist(Potential):
    """A potential given by log-twists of whole prefixes.

    Attributes:
        every_step: whether log psi_T can depend on what was asked at the steps before.
        elsewhere: whether it can be asked about some texts while an engine writes others: see `Reward.elsewhere`.
    """

    every_step: bool = True
    elsewhere: bool = False

    def twists(self) -> "tuple[Twist, ...]":
        return (self,)

    @abstractmethod
    def open_twist(
        self, prompts: Sequence[Prompt], n: int, tokenizer: Any, meter: Meter
    ) -> TwistSession:
        """State for a population of `len(prompts) * n` rows."""
