"""Random numbers for sampling tokens: fixed by (key, problem, step, particle, position) alone.

Each particle has its own stream, so what it writes depends neither on how rows are batched, nor on
which other problems run beside it, nor on which particles have already ended.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64, Int64

FIRST, BLOCK = 4, 32  # token positions drawn per dispatch: few for steps of a token, then many


@partial(jax.jit, static_argnames=("n", "width"))
def _bits(keys: jax.Array, block: jax.Array, n: int, width: int) -> jax.Array:
    draw = lambda key: jax.random.bits(jax.random.fold_in(key, block), (n, width, 2), jnp.uint32)
    return jax.vmap(draw)(keys)


@partial(jax.jit, static_argnames=("n",))
def _seeds(keys: jax.Array, n: int) -> jax.Array:
    return jax.vmap(lambda key: jax.random.bits(key, (n,), jnp.uint32))(keys)


class StepRandomness:
    """The random numbers of one step of a population.

    Args:
        keys: one JAX key per problem, shape (problems,).
        n: particles per problem. Row `problem * n + particle` of everything below is a particle's.
    """

    def __init__(self, keys: jax.Array, n: int):
        self._keys, self._n = keys, n
        self._blocks: dict[int, np.ndarray] = {}

    def uniforms(self, position: int) -> Float64[np.ndarray, " rows"]:
        """One uniform in (0, 1) per row with 53 random bits, for the step's token `position`."""
        block, offset, width = 0, position, FIRST
        if position >= FIRST:
            (block, offset), width = divmod(position - FIRST, BLOCK), BLOCK
            block += 1
        if block not in self._blocks:
            drawn = _bits(self._keys, np.uint32(block), self._n, width)
            bits = np.asarray(drawn).reshape(-1, width, 2)
            high = (bits[..., 0] >> 5).astype(np.float64)
            low = (bits[..., 1] >> 6).astype(np.float64)
            self._blocks[block] = (high * 67108864.0 + low + 0.5) * 2.0**-53
        return self._blocks[block][:, offset]

    def seeds(self) -> Int64[np.ndarray, " rows"]:
        """One seed per row, for engines that draw by themselves."""
        return np.asarray(_seeds(self._keys, self._n)).reshape(-1).astype(np.int64)
