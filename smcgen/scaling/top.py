"""Keeping the best: a deterministic rule in the place of resampling, for searches that target nothing."""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int32

from smcgen.core._types import RandomKey
from smcgen.text.model import TextModel
from smcgen.text.state import TextState


@dataclass(frozen=True)
class Top:
    """Each of `groups` equal blocks of slots keeps its `width` heaviest particles, in turn over its slots.

    Weights go along unchanged, so that they stay proportional to psi_t. This is no resampling: particles of less
    weight are lost for good and nothing makes up for it, so neither the weights nor the evidence estimate anything.
    Among equal weights the first slot wins; where fewer than `width` weights are positive, the others are left out.
    """

    width: int = 1
    groups: int = 1

    def weighted(
        self, key: RandomKey, log_weights: Float[Array, " n"]
    ) -> tuple[Int32[Array, " n"], Float[Array, " n"]]:
        n = len(log_weights)
        size = n // self.groups
        blocks = log_weights.reshape(self.groups, size)
        best = jnp.argsort(-blocks, axis=1, stable=True)[:, : self.width]
        living = jnp.sum(jnp.take_along_axis(blocks, best, 1) > -jnp.inf, 1, keepdims=True)
        turn = jnp.arange(size) % jnp.maximum(living, 1)
        chosen = jnp.take_along_axis(best, turn, 1) + size * jnp.arange(self.groups)[:, None]
        ancestors = chosen.reshape(n).astype(jnp.int32)
        return ancestors, log_weights[ancestors]


@dataclass(frozen=True)
class Distinct(TextModel):
    """Texts of which equal ended ones count once: copies of a finished text are not several beams."""

    def step(self, key: Any, t: Any, state: TextState) -> tuple[TextState, Any]:
        state, log_g = super().step(key, t, state)
        flat = np.array(log_g, np.float64).reshape(-1)
        texts = state.texts
        rows = np.flatnonzero(texts.ended)
        if len(rows) > 1:
            labelled = np.concatenate([rows[:, None] // texts.n, texts.ids[rows]], 1)
            firsts = np.unique(labelled, axis=0, return_index=True)[1]
            flat[np.delete(rows, firsts)] = -np.inf
        return state, flat.reshape(np.shape(log_g))

    def split(self) -> list[TextModel]:
        return [replace(self, prompt=prompt) for prompt in self.prompts]
