"""A function of a batch, called on parts of it that fit into memory."""

import sys
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "cublas_status_alloc_failed",
    "resource_exhausted",
)


def in_parts(function: Callable[[slice], Any], rows: int, size: int | None) -> list[Any]:
    """`function(slice)` on consecutive parts of at most `size` rows, on the host.

    A part that runs out of device memory is halved and tried again, and so are all after it: what was done stays
    done. A single row that does not fit is an error.
    """
    size, done, results = min(size or rows, rows), 0, []
    while done < rows:
        try:
            results.append(function(slice(done, min(done + size, rows))))
        except Exception as error:
            if not out_of_memory(error) or size == 1:
                raise
            size = (size + 1) // 2
            _free()
            continue
        done += size
    return results


def joined(parts: list[Any]) -> Any:
    """The parts as one: arrays by rows, lists one after the other."""
    if len(parts) == 1:
        return parts[0]
    if isinstance(parts[0], list):
        return [x for part in parts for x in part]
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(parts[0], torch.Tensor):
        return torch.cat(parts)
    if isinstance(parts[0], jax.Array):
        return jnp.concatenate(parts)
    return np.concatenate([np.asarray(p) for p in parts])


def mapped(function: Callable[[Any], Any], operands: Any, size: int | None) -> Any:
    """The same inside a JAX program: `function(parts)` of pytrees with rows leading, results put together."""
    rows = len(jax.tree.leaves(operands)[0])
    if size is None or size >= rows:
        return function(operands)
    whole = rows - rows % size
    parts = jax.tree.map(lambda x: jnp.asarray(x[:whole]).reshape(-1, size, *x.shape[1:]), operands)
    scores = jax.lax.map(function, parts).reshape(whole)
    if whole == rows:
        return scores
    rest = function(jax.tree.map(lambda x: x[whole:], operands))
    return jnp.concatenate([scores, jnp.asarray(rest)])


def out_of_memory(error: Exception) -> bool:
    """Whether memory ran out, in the words of torch (on a GPU or a CPU), cuBLAS, JAX or Python."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    said = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in said for words in _OUT_OF_MEMORY)


def _free() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()
