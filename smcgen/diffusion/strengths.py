"""Strengths of steering, checked where they are known: not inside a JAX transformation."""

from numbers import Real
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from smcgen.errors import InvalidArgument


def check_finite(name: str, value: Any) -> None:
    """Raise `InvalidArgument` if `value` is text, infinite or NaN."""
    known = isinstance(value, Real | np.ndarray | jax.Array) and not isinstance(value, Tracer)
    if isinstance(value, str) or (known and not np.all(np.isfinite(np.asarray(value)))):
        raise InvalidArgument(name, value, "a finite number")


def checked_ladder(ladder: Any, num_steps: int) -> Any:
    """A ladder of strengths as an array; none is 1 everywhere.

    Raises:
        InvalidArgument: not T + 1 finite numbers that end at 1.
    """
    if isinstance(ladder, Tracer) or type(ladder) is object:
        return ladder  # inside a JAX transformation
    values = np.ones(num_steps + 1) if ladder is None else np.asarray(ladder, np.float64)
    wrong = values.shape != (num_steps + 1,) or not np.all(np.isfinite(values))
    if wrong or values[-1] != 1:
        allowed = f"{num_steps + 1} finite numbers for t = 0..{num_steps}, the last of them 1"
        raise InvalidArgument("ladder", ladder, allowed)
    return values
