"""Arrays as pictures."""

from typing import Any

import numpy as np

from smcgen.diffusion.backends.jax import to_numpy
from smcgen.errors import InvalidArgument, MissingExtra


def to_pil(images: Any) -> list[Any]:
    """Images in [0, 1], shape (rows, channels, height, width) with 1 or 3 channels, as PIL images.

    Raises:
        InvalidArgument: they are of another shape.
        MissingExtra: without Pillow.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtra("PIL images", "pillow", "diffusers") from error
    found = np.asarray(to_numpy(images)) if not isinstance(images, list) else None
    if found is None or found.ndim != 4 or found.shape[1] not in (1, 3):
        got = type(images).__name__ if found is None else f"shape {found.shape}"
        raise InvalidArgument("images", got, "shape (rows, 1 or 3, height, width)")
    pixels = np.clip(np.round(found.astype(np.float32) * 255), 0, 255).astype(np.uint8)
    return [Image.fromarray(p[0] if len(p) == 1 else p.transpose(1, 2, 0)) for p in pixels]
