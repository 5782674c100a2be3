"""Strengths of steering, checked where they are known: not inside a JAX transformation."""

from numbers import Real
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from smcgen.diffusion.base import Kernel
from smcgen.errors import InvalidArgument


def check_finite(name: str, value: Any) -> None:
    """Raise `InvalidArgument` if `value` is text, infinite or NaN."""
    known = isinstance(value, Real | np.ndarray | jax.Array) and not isinstance(value, Tracer)
    if isinstance(value, str) or (known and not np.all(np.isfinite(np.asarray(value)))):
        raise InvalidArgument(name, value, "a finite number")


def checked_ladder(ladder: Any, num_steps: int, looks: bool) -> Any:
    """A ladder of strengths as an array; none is 1 everywhere.

    Raises:
        InvalidArgument: not T + 1 finite numbers that end at 1, or nothing `looks` before the end.
    """
    if isinstance(ladder, Tracer) or type(ladder) is object:
        return ladder  # inside a JAX transformation
    values = np.ones(num_steps + 1) if ladder is None else np.asarray(ladder, np.float64)
    wrong = values.shape != (num_steps + 1,) or not np.all(np.isfinite(values))
    if wrong or values[-1] != 1:
        allowed = f"{num_steps + 1} finite numbers for t = 0..{num_steps}, the last of them 1"
        raise InvalidArgument("ladder", ladder, allowed)
    if not looks and np.any(values != 1):
        allowed = "None without a reward and a twist: no strength but the last is used"
        raise InvalidArgument("ladder", ladder, allowed)
    return values


def check_guidance(kernel: Kernel, looks: bool) -> None:
    """Raise `InvalidArgument` where there is no gradient to follow, which would do nothing in silence."""
    if type(kernel).step_variance is Kernel.step_variance:
        allowed = f"None: {type(kernel).__name__} draws tokens, which have no gradient; `candidates` works there"
        raise InvalidArgument("guidance", "a gradient", allowed)
    if not looks:
        allowed = "None without a reward and a twist: it follows the gradient of the twist's value"
        raise InvalidArgument("guidance", "a gradient", allowed)
