"""Random numbers of prompts, each from its own key."""

from typing import Any

import jax
import numpy as np
from jaxtyping import Float64


def folded(keys: Any, number: int) -> Any:
    """`fold_in` of a number into a key, or into each of several."""
    fold = jax.random.fold_in if keys.ndim == 0 else jax.vmap(jax.random.fold_in, (0, None))
    return fold(keys, number)


def uniforms(keys: Any) -> Float64[np.ndarray, " p"]:
    """One uniform strictly inside (0, 1) for each key, with 52 bits."""
    bits = np.asarray(jax.vmap(lambda key: jax.random.bits(key, (2,)))(keys)) >> 6
    return (bits[:, 0] * 2.0**26 + bits[:, 1] + 0.5) * 2.0**-52
