"""Where JAX works in a run that Python drives: beside the numbers.

Keys and what a model hands over as NumPy arrays are on the host, and so are the ancestors that it is told. There a
processor resamples in 0.1 ms; on a GPU the copies and launches take eight times as long, at every step.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any

import jax
import numpy as np
from jax.core import Tracer

from smcgen.core._types import RandomKey


def beside(x: Any) -> AbstractContextManager:
    """A context in which JAX works where x is, whatever its default device is: on the host for a NumPy array.

    What is computed there is bound to no device, and can be used with arrays anywhere. Inside a transformation, and
    for an array that lies on several devices, nothing changes.
    """
    host = _host()
    if host is None:
        return nullcontext()
    if isinstance(x, np.ndarray | np.generic):
        return jax.default_device(host)
    if isinstance(x, Tracer) or not isinstance(x, jax.Array) or len(x.devices()) > 1:
        return nullcontext()
    return jax.default_device(next(iter(x.devices())))


def to_host(keys: RandomKey) -> RandomKey:
    """Keys on the host, bound to no device."""
    host = _host()
    if host is None:
        return keys
    words: Any = np.asarray(jax.random.key_data(keys))
    with jax.default_device(host):
        return jax.random.wrap_key_data(words, impl=jax.random.key_impl(keys))


def _host() -> Any:
    """The processor, where JAX's default device is another; else None."""
    default, host = _devices()
    config: Any = jax.config  # whose options have no types
    chosen = config.jax_default_device
    if isinstance(chosen, str):
        default = jax.local_devices(backend=chosen)[0]
    elif chosen is not None:
        default = chosen
    return None if host is None or default == host else host


@cache
def _devices() -> tuple[Any, Any]:
    """JAX's first device, and the processor; None if JAX was told to do without."""
    try:
        return jax.local_devices()[0], jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0], None
