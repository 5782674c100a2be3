"""Random numbers for sampling tokens: fixed by (key, problem, step, particle, position) alone.

Each particle has its own stream, so what it writes depends neither on how rows are batched, nor on
which other problems run beside it, nor on which particles have already ended.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64

FIRST, BLOCK = 4, 32  # token positions drawn per dispatch: few for steps of a token, then many


@partial(jax.jit, static_argnames=("n", "width"))
def _bits(keys: jax.Array, block: jax.Array, n: int, width: int) -> jax.Array:
    draw = lambda key: jax.random.bits(jax.random.fold_in(key, block), (n, width, 2), jnp.uint32)
    return jax.vmap(draw)(keys.reshape(-1))


class StepRandomness:
    """The random numbers of one step of a population.

    Args:
        keys: one JAX key per problem, of any shape.
        n: particles per problem. Row `problem * n + particle` of everything below is a particle's.
    """

    def __init__(self, keys: jax.Array, n: int):
        self._keys, self._n = keys, n
        # dispatched now, so that they are drawn while the model runs
        self._first = _bits(keys, np.uint32(0), n, FIRST)
        self._blocks: dict[int, np.ndarray] = {}

    def uniforms(self, position: int) -> Float64[np.ndarray, " rows"]:
        """One uniform strictly inside (0, 1) per row, 52 random bits, for the step's token `position`."""
        block, offset, width = 0, position, FIRST
        if position >= FIRST:
            (block, offset), width = divmod(position - FIRST, BLOCK), BLOCK
            block += 1
        if block not in self._blocks:
            bits = _bits(self._keys, np.uint32(block), self._n, width) if block else self._first
            bits = np.asarray(bits).reshape(-1, width, 2)
            high, low = (bits >> 6).astype(np.float64).transpose(2, 0, 1)
            # 52 bits and a half fit a double exactly; with 53 the largest would round to 1
            self._blocks[block] = (high * 2.0**26 + low + 0.5) * 2.0**-52
        return self._blocks[block][:, offset]
