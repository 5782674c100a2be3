"""Token factors: potentials that act on every token, phi(x_<t, v) for each token v.

A hard constraint has phi in {0, 1}, an expert language model phi = e(v | x_<t) ** strength. The
target is multiplied by prod_t phi(x_<t, x_t); the engine draws from p(v) phi(v) / Z and reports Z
in the weight, so nothing is masked silently. A factor is a `Potential` (it composes by `*`, `**`
and `where`).
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float, Float64, Int

from smcgen.core.cost import Meter
from smcgen.text.potentials.base import Potential
from smcgen.text.prompts import Prompt

if TYPE_CHECKING:
    import torch


class Setting(NamedTuple):
    """The population that a factor is opened for.

    Attributes:
        prompts, n: `len(prompts) * n` rows.
        tokenizer: the policy's.
        vocab_size: width of the model's logits, which may exceed `len(tokenizer)`.
        eos_ids: tokens that end a text.
        device: where the engine wants `log_phi`.
        meter: counts what the factor reads.
        completions: one per row, if the population resumes earlier texts.
    """

    prompts: Sequence[Prompt]
    n: int
    tokenizer: Any
    vocab_size: int
    eos_ids: frozenset[int]
    device: Any
    meter: Meter
    completions: Sequence[Sequence[int]] | None = None


class FactorSession(Protocol):
    """A factor's state for one population; rows are `problem * n + particle`."""

    def log_phi(self, rows: Int[np.ndarray, " m"]) -> "Float[torch.Tensor, 'm vocab']":
        """log phi of every next token, -inf where forbidden, on the engine's device."""
        ...

    def push(self, rows: Int[np.ndarray, " m"], tokens: Int[np.ndarray, " m"]) -> None:
        """Rows were extended by one token each."""
        ...

    def log_cut(self, rows: Int[np.ndarray, " m"]) -> Float[np.ndarray, " m"]:
        """Log factor of a text that is cut off here (-inf where only complete texts count)."""
        ...

    def log_continue(
        self,
        rows: Int[np.ndarray, " m"],
        tokens: Sequence[Sequence[int]],
        cut: Bool[np.ndarray, " m"],
    ) -> Float64[np.ndarray, " m"]:
        """log phi of `tokens` behind each row's text, `log_cut` included where `cut`; nothing changes."""
        ...

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        """Row i becomes a copy of row `ancestors[i]`."""
        ...

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        """These rows are not extended again."""
        ...

    def close(self) -> None:
        """Free what the session holds."""
        ...


class TokenFactor(Potential):
    """Base class of token factors."""

    def factors(self) -> "tuple[TokenFactor, ...]":
        return (self,)

    @abstractmethod
    def open_factor(self, setting: Setting) -> FactorSession:
        """State for the population that `setting` describes."""
