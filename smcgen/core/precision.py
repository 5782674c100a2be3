"""Matrix products in full single precision, where a weight or an evidence depends on them.

On a GPU JAX rounds what it multiplies to 11 bits (TF32). A product is then off by 3e-4, and a log-density of a thousand
nats by as much as a weight is meant to tell.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import jax


@contextmanager
def full_precision() -> Iterator[None]:
    """A context, and a decorator: products in it are of all bits, unless JAX's configuration says how they are to be.

    `jax_default_matmul_precision` (environment: `JAX_DEFAULT_MATMUL_PRECISION`) is that configuration.
    """
    config: Any = jax.config  # whose options have no types
    exact = config.jax_default_matmul_precision is not None or jax.default_backend() == "cpu"
    with nullcontext() if exact else jax.default_matmul_precision("highest"):
        yield
