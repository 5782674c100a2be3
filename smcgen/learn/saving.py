"""Parameters and interrupted fits on disk: safetensors, written atomically."""

import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcgen.core._types import PyTree
from smcgen.core.storage import check_folder, read_arrays, write_arrays
from smcgen.errors import CheckpointError

_VERSION = "1"


def save_params(path: str | Path, params: PyTree) -> None:
    """Write a pytree of arrays; `load_params` reads it."""
    write_arrays(Path(path), _named(params), {})


def load_params(path: str | Path, like: PyTree) -> PyTree:
    """The parameters in a file, in the structure of `like`, whose values do not matter.

    Raises:
        CheckpointError: the file cannot be read, or holds other names or shapes than `like`.
    """
    arrays, _ = read_arrays(Path(path), repr(str(path)))
    return _restored(Path(path), arrays, like)


class TrainingFile:
    """The checkpoint file of one fit: parameters, optimiser and losses so far."""

    def __init__(self, path: str | Path, key: Any, identity: str):
        self._path = Path(path)
        check_folder(self._path)
        told = [identity, np.asarray(jax.random.key_data(key)).tolist()]
        self._identity = hashlib.sha256(json.dumps(told).encode()).hexdigest()

    def write(self, carry: PyTree, losses: np.ndarray) -> None:
        """Write the fit so far."""
        metadata = {"version": _VERSION, "identity": self._identity}
        write_arrays(self._path, {**_named(carry), "losses": losses}, metadata)

    def read(self, like: PyTree) -> tuple[PyTree, np.ndarray] | None:
        """The fit in the file; None if there is no file yet."""
        if not self._path.exists():
            return None
        arrays, metadata = read_arrays(self._path, repr(str(self._path)))
        if metadata.get("version") != _VERSION or metadata.get("identity") != self._identity:
            raise CheckpointError(
                f"checkpoint={str(self._path)!r} belongs to another fit: key and settings must be those it "
                "was written with. Delete it or choose another path"
            )
        losses = arrays.pop("losses")
        return _restored(self._path, arrays, like), losses


def _named(tree: PyTree) -> dict[str, np.ndarray]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path) or "value": np.asarray(x) for path, x in leaves}


def _restored(path: Path, arrays: dict[str, np.ndarray], like: PyTree) -> PyTree:
    wanted = _named(like)
    kinds = lambda found: {name: (x.shape, str(x.dtype)) for name, x in found.items()}
    if kinds(arrays) != kinds(wanted):
        differ = sorted(set(kinds(arrays).items()) ^ set(kinds(wanted).items()))
        raise CheckpointError(f"{str(path)!r} holds other parameters: {differ[0][0]} differs")
    leaves = [jnp.asarray(arrays[name]) for name in wanted]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)
