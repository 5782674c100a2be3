"""Random numbers for sampling tokens: fixed by (key, problem, step, particle, position) alone.

Each particle has its own stream, so what it writes depends neither on how rows are batched, nor on
which other problems run beside it, nor on which particles have already ended.

They are NumPy's Philox numbers (Salmon et al. 2011), which a host has at a few nanoseconds each: a program of XLA's for
every number of problems and particles would take longer to compile than a run draws from it.
"""

from functools import cached_property

import jax
import numpy as np
from jaxtyping import Float64, UInt32, UInt64

from smcgen.core.place import beside

BLOCK = 32  # token positions of a block of random numbers; the first token's are by themselves


class StepRandomness:
    """The random numbers of one step of a population.

    Args:
        keys: one JAX key per problem, of any shape.
        n: particles per problem. Row `problem * n + particle` of everything below is a particle's.
    """

    def __init__(self, keys: jax.Array, n: int):
        self._given, self._n = keys, n
        self._drawn: dict[int, Float64[np.ndarray, "rows columns"]] = {}  # by block

    @cached_property  # read when the first token is drawn, while a GPU has work
    def _keys(self) -> UInt32[np.ndarray, "problems 2"]:
        typed = jax.dtypes.issubdtype(self._given.dtype, jax.dtypes.prng_key)
        with beside(self._given):
            words = np.asarray(_key_data(self._given) if typed else self._given)
        return words.reshape(-1, words.shape[-1])[:, :2]

    def uniforms(self, position: int) -> Float64[np.ndarray, " rows"]:
        """One uniform strictly inside (0, 1) per row, 52 random bits, for the step's token `position`."""
        block, column = divmod(position - 1 + BLOCK, BLOCK) if position else (0, 0)
        if block not in self._drawn:
            width = BLOCK if block else 1
            bits = _bits(self._keys, block, self._n * width).reshape(-1, width)
            # 52 bits and a half fit a double exactly; with 53 the largest would round to 1
            self._drawn[block] = ((bits >> 12) + 0.5) * 2.0**-52
        return self._drawn[block][:, column]


_key_data = jax.jit(jax.random.key_data)  # half the time of calling it


def _bits(
    keys: UInt32[np.ndarray, "problems 2"], block: int, count: int
) -> UInt64[np.ndarray, "problems count"]:
    """The streams of a block, each under its key's two words; a new `Philox` takes as long as a thousand numbers."""
    philox = np.random.Philox(key=0)
    start = philox.state
    found = np.empty((len(keys), count), np.uint64)
    for bits, (first, second) in zip(found, keys.tolist(), strict=True):
        start["state"]["key"][:] = first | second << 32, block
        philox.state = start
        bits[:] = philox.random_raw(count)
    return found
