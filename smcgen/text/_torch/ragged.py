"""Lists of tokens of different lengths as one array."""

from collections.abc import Sequence
from itertools import chain

import numpy as np
from jaxtyping import Int64


def padded(
    lists: Sequence[Sequence[int]],
) -> tuple[Int64[np.ndarray, "m k"], Int64[np.ndarray, " m"]]:
    """The lists, right-padded with token 0, and their lengths."""
    counts = np.array([len(x) for x in lists], dtype=np.int64)
    tokens = np.zeros((len(lists), int(counts.max(initial=0))), dtype=np.int64)
    tokens[np.arange(tokens.shape[1]) < counts[:, None]] = list(chain.from_iterable(lists))
    return tokens, counts
