"""What a step of masked diffusion works on."""

from typing import Any, NamedTuple

from smcgen.diffusion.backends.base import Tensor


class MaskedPrediction(NamedTuple):
    """What the network said about x_t.

    Attributes:
        logits: (rows, L, V), or (rows, block_length, V) with `ahead`; -inf at the mask and what is never written.
        block: (rows, L), in which block a position is written; -1 if it is given.
    """

    logits: Tensor
    block: Any


class Step(NamedTuple):
    """Step t, for each row: arrays of (rows, L), NumPy or JAX; `count` (rows,)."""

    open: Any  # positions that may be revealed
    shut: Any  # positions of the block that are revealed, and may be masked again
    rate: Any  # probability to reveal an open position
    remask: Any  # probability to mask a shut one
    count: Any  # how many to reveal, for orders that count
