"""Random numbers for sampling tokens: fixed by (key, problem, step, particle, position) alone.

Each particle has its own stream, so what it writes depends neither on how rows are batched, nor on
which other problems run beside it, nor on which particles have already ended.

They are those of `jax.random.bits`, computed by NumPy: a program for every number of problems and particles would take
XLA longer to compile than a run draws from it.
"""

from functools import cached_property, lru_cache

import jax
import numpy as np
from jaxtyping import Float64, UInt32

from smcgen.core.place import beside

# token positions of a block of random numbers; of the first block the first alone is drawn, and then the rest: steps
# of a token need no more
FIRST, BLOCK = 4, 32
_PARITY = 0x1BD11BDA
# bits by which each round of a group turns a word to the left; then, with what is left of it on the right, as arrays,
# which NumPy's operations take as they are
_TURNS = ((13, 15, 26, 6), (17, 29, 16, 24))
_SHIFTS = [[(np.array(r, np.uint32), np.array(32 - r, np.uint32)) for r in g] for g in _TURNS]
_WORD = 0xFFFFFFFF
_FEW = 8  # keys that Python's integers fold sooner than NumPy's arrays


class StepRandomness:
    """The random numbers of one step of a population.

    Args:
        keys: one JAX key per problem, of any shape.
        n: particles per problem. Row `problem * n + particle` of everything below is a particle's.
    """

    def __init__(self, keys: jax.Array, n: int):
        self._given, self._n = keys, n
        self._drawn: dict[tuple[int, int], np.ndarray] = {}  # by block and first column

    @cached_property  # read when the first token is drawn, while a GPU has work
    def _keys(self) -> UInt32[np.ndarray, "problems 2"]:
        typed = jax.dtypes.issubdtype(self._given.dtype, jax.dtypes.prng_key)
        with beside(self._given):
            words = np.asarray(_key_data(self._given) if typed else self._given)
        return words.reshape(-1, words.shape[-1])[:, :2]

    def uniforms(self, position: int) -> Float64[np.ndarray, " rows"]:
        """One uniform strictly inside (0, 1) per row, 52 random bits, for the step's token `position`."""
        if position >= FIRST:
            block, column = divmod(position - FIRST, BLOCK)
            block, width, start, end = block + 1, BLOCK, 0, BLOCK
        else:
            block, column, width = 0, position, FIRST
            start, end = (0, 1) if position == 0 else (1, FIRST)
        if (block, start) not in self._drawn:
            words = _words(self._n, width, start, end)
            bits = _bits(self._keys, block, words).reshape(-1, end - start, 2)
            high, low = (bits >> 6).astype(np.float64).transpose(2, 0, 1)
            # 52 bits and a half fit a double exactly; with 53 the largest would round to 1
            self._drawn[block, start] = (high * 2.0**26 + low + 0.5) * 2.0**-52
        return self._drawn[block, start][:, column - start]


_key_data = jax.jit(jax.random.key_data)  # half the time of calling it


@lru_cache(64)
def _words(n: int, width: int, start: int, end: int) -> UInt32[np.ndarray, "1 count"]:
    """Numbers of the two words of columns start..end-1 of each of n rows of `width` columns."""
    places = np.arange(n, dtype=np.uint32)[:, None] * np.uint32(width)
    places = places + np.arange(start, end, dtype=np.uint32)
    return (places.reshape(-1, 1) * np.uint32(2) + np.arange(2, dtype=np.uint32)).reshape(1, -1)


def _bits(
    keys: UInt32[np.ndarray, "problems 2"], block: int, words: UInt32[np.ndarray, "1 count"]
) -> UInt32[np.ndarray, "problems count"]:
    """These words of `jax.random.bits(jax.random.fold_in(key, block), ...)` of each key."""
    if len(keys) <= _FEW:
        folded = np.array([_fold(a, b, block) for a, b in keys.tolist()], np.uint32)
    else:
        columns = _threefry(keys[:, :1], keys[:, 1:], np.full((1, 1), block, np.uint32))
        folded = np.concatenate(columns, 1)
    first, second = _threefry(folded[:, :1], folded[:, 1:], words)
    return first ^ second


def _fold(key0: int, key1: int, count: int) -> tuple[int, int]:
    """`_threefry` of one counter under one key."""
    schedule = key0, key1, key0 ^ key1 ^ _PARITY
    a, b = key0, (count + key1) & _WORD
    for i in range(5):
        for turn in _TURNS[i % 2]:
            a = (a + b) & _WORD
            b = ((b << turn | b >> (32 - turn)) & _WORD) ^ a
        a = (a + schedule[(i + 1) % 3]) & _WORD
        b = (b + schedule[(i + 2) % 3] + i + 1) & _WORD
    return a, b


def _threefry(
    key0: UInt32[np.ndarray, "p 1"], key1: UInt32[np.ndarray, "p 1"], x1: UInt32[np.ndarray, "1 c"]
) -> tuple[UInt32[np.ndarray, "p c"], UInt32[np.ndarray, "p c"]]:
    """Threefry-2x32 with 20 rounds (Salmon et al. 2011) of each counter (0, x1) under each key."""
    schedule = (key0, key1, key0 ^ key1 ^ np.uint32(_PARITY))
    b = x1 + key1
    a, high = np.empty_like(b), np.empty_like(b)
    a[:] = key0
    for i in range(5):
        for left, right in _SHIFTS[i % 2]:
            np.add(a, b, a)
            np.left_shift(b, left, high)
            np.right_shift(b, right, b)
            np.bitwise_or(b, high, b)
            np.bitwise_xor(b, a, b)
        np.add(a, schedule[(i + 1) % 3], a)
        np.add(b, schedule[(i + 2) % 3] + np.uint32(i + 1), b)
    return a, b
