"""The canvas: which positions are to be written, and in which block."""

from numbers import Integral
from typing import Any

import numpy as np
from jaxtyping import Int

from smcgen.errors import InvalidArgument

_ALLOWED = "a length >= 1, or token ids of shape (L,) or (problems, L)"


def checked_canvas(canvas: Any, mask_id: int) -> Int[np.ndarray, "*problems L"]:
    """A canvas as an array.

    Raises:
        InvalidArgument: it is no canvas, or has nowhere to write.
    """
    if isinstance(canvas, Integral) and not isinstance(canvas, bool):
        if canvas < 1:
            raise InvalidArgument("canvas", canvas, _ALLOWED)
        return np.full(int(canvas), mask_id)
    ids = np.asarray(canvas)
    if ids.ndim not in (1, 2) or ids.dtype.kind not in "iu" or ids.size == 0:
        raise InvalidArgument("canvas", canvas, _ALLOWED)
    ids = ids.astype(int)
    if not np.any(ids == mask_id):
        raise InvalidArgument("canvas", canvas, f"one with the mask, {mask_id}, where to write")
    return ids


def blocks_of(
    canvas: Int[np.ndarray, "*problems L"], mask_id: int, length: int | None, aligned: bool = False
) -> int:
    """How many blocks the fullest canvas has; one if `length` is None."""
    if length is None:
        return 1
    if isinstance(length, bool) or not isinstance(length, Integral) or length < 1:
        raise InvalidArgument("block_length", length, "None or an integer >= 1")
    return int(block_of(canvas, mask_id, int(length), aligned, np).max()) + 1


def block_of(canvas: Any, mask_id: int, length: int | None, aligned: bool, xp: Any) -> Any:
    """(*problems, L): the block in which each position is written, -1 where the canvas gives a token.

    Blocks are counted in masks, or, if `aligned`, by position, from the block with the first mask on.
    """
    holes = xp.asarray(canvas) == mask_id
    size = length or canvas.shape[-1]
    if aligned:
        place = xp.arange(canvas.shape[-1]) // size
        block = place - place[xp.argmax(holes, axis=-1)][..., None]
    else:
        block = (xp.cumsum(holes, axis=-1) - 1) // size
    return xp.where(holes, block, -1)


def check_alike(ahead: int, canvas: Any, mask_id: int, length: int | None, alike: bool) -> None:
    """Raise `InvalidArgument` unless all rows are in the same block at any time: those of a canvas that begin alike."""
    first = (canvas == mask_id).argmax(-1) // (length or 1)
    if not alike or length is None or np.any(first != first.min()):
        allowed = "None, unless with torch and aligned blocks that begin alike in all rows"
        raise InvalidArgument("ahead", ahead, allowed)
