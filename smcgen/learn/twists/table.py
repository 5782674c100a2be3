"""A twist for finite states: one number for each."""

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jaxtyping import Array, Int

from smcgen.core._types import LogG
from smcgen.core.precision import full_precision
from smcgen.errors import ModelError
from smcgen.learn.twists.base import Learnable, Tilting, Values


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Table(Tilting, Learnable):
    """`log psi_t(x) = v_t[x]` for states x = 0..k-1.

    Attributes:
        values: v, shape (T + 1, k). Where psi is 0 the twisted kernel never goes: only where nothing
            of the target is.
    """

    values: Any

    @classmethod
    def flat(cls, num_steps: int, states: int) -> "Table":
        """`psi = 1` at all times 0..num_steps."""
        return cls(jnp.zeros((num_steps + 1, states)))

    def __call__(self, t: Any, x: Int[Array, " n"]) -> LogG:
        return self.values[t][x]

    def tilt(self, t: Any, law: dist.Distribution) -> tuple[dist.Distribution, Array]:
        known = isinstance(law, dist.CategoricalProbs | dist.CategoricalLogits)
        logits = jnp.asarray(law.logits) if known else jnp.zeros(0)
        if logits.shape[-1] != self.values.shape[-1]:
            states = f" of {logits.shape[-1]} states" if known else ""
            raise ModelError(
                f"a Table twist of {self.values.shape[-1]} states tilts categorical kernels over them, "
                f"not {type(law).__name__}{states}"
            )
        logits = jax.nn.log_softmax(logits) + self.values[t]
        return dist.CategoricalLogits(logits), jax.nn.logsumexp(logits, axis=-1)

    @full_precision()
    def fitted(self, t: Any, x: Int[Array, " n"], log_values: Values, weights: Values) -> "Table":
        """The mean log-value of each state's particles; a state without any moves as the others do on average."""
        members = jax.nn.one_hot(x, self.values.shape[-1]) * weights[:, None]
        mass = jnp.sum(members, axis=0)
        change = weights @ (log_values - self(t, x)) / jnp.sum(weights)
        means = (log_values @ members) / jnp.maximum(mass, 1e-30)
        means = jnp.where(mass > 0, means, self.values[t] + change)
        return replace(self, values=self.values.at[t].set(means))
