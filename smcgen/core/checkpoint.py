"""Checkpoints: a run on disk after each step, as safetensors (arrays) with JSON metadata.

Writing is atomic (a new file replaces the old one), so a kill at any moment leaves a good file.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from smcgen.core.body import Carry, Info, Settings, record
from smcgen.core.feynman_kac import Resolved
from smcgen.errors import CheckpointError

_VERSION = "1"


class Checkpoint:
    """The checkpoint file of one run."""

    def __init__(self, path: Path, model: Resolved, original: Any, keys: Any, settings: Settings):
        self._path, self._model, self._keys, self._settings = path, model, keys, settings
        self._as_arrays = model.checkpointing or LeafCheckpointing(original)
        if not path.parent.is_dir():
            raise CheckpointError(
                f"checkpoint={str(path)!r}: the folder {str(path.parent)!r} does not exist"
            )
        identity = [
            self._as_arrays.fingerprint(),
            np.asarray(jax.random.key_data(keys)).tolist(),
            repr(settings),
        ]
        self._identity = hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def write(self, t: int, carry: Carry, first: Info, infos: Sequence[Info]) -> None:
        """Write the run after step t."""
        arrays = {f"state/{k}": np.asarray(v) for k, v in self._as_arrays.dump(carry.state).items()}
        for name, value in carry._replace(state=None)._asdict().items():
            if value is not None:
                arrays[f"carry/{name}"] = np.asarray(value)
        for step, info in enumerate([first, *infos]):
            arrays |= {f"info/{step}/{k}": np.asarray(v) for k, v in _info_arrays(info).items()}
        metadata = {"version": _VERSION, "identity": self._identity, "t": str(t)}
        temporary = self._path.with_name(self._path.name + ".part")
        save_file({k: np.array(v, order="C") for k, v in arrays.items()}, temporary, metadata)
        os.replace(temporary, self._path)

    def read(self) -> tuple[int, Carry, Info, list[Info]] | None:
        """The run in the file: step, carry, infos; None if there is no file yet."""
        if not self._path.exists():
            return None
        try:
            with safe_open(self._path, "numpy") as file:
                metadata = file.metadata() or {}
                arrays = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"checkpoint={str(self._path)!r} cannot be read: {error}"
            ) from error
        if metadata.get("version") != _VERSION or metadata.get("identity") != self._identity:
            raise CheckpointError(
                f"checkpoint={str(self._path)!r} belongs to another run: model, prompts, key, n_particles and "
                "settings must be those it was written with. Delete it or choose another path"
            )
        t = int(metadata["t"])
        part = lambda start: {k[len(start) :]: v for k, v in arrays.items() if k.startswith(start)}
        state = self._as_arrays.load(self._keys, self._settings.n, part("state/"))
        small = {k: jnp.asarray(v) for k, v in part("carry/").items()}
        structure = jax.tree.structure(record(self._model, state, self._settings))
        infos = [_info(part(f"info/{step}/"), structure) for step in range(t + 1)]
        return t, Carry(state=state, **small), infos[0], infos[1:]


def _info_arrays(info: Info) -> dict[str, Any]:
    fields = {k: v for k, v in info._replace(record=None)._asdict().items() if v is not None}
    return fields | {f"record/{i}": x for i, x in enumerate(jax.tree.leaves(info.record))}


def _info(arrays: dict[str, np.ndarray], structure: Any) -> Info:
    leaves = [arrays[f"record/{i}"] for i in range(structure.num_leaves)]
    record = jax.tree.unflatten(structure, leaves)
    fields = {name: arrays.get(name) for name in Info._fields if name != "record"}
    return Info(**fields, record=record)


def _fingerprint(model: Any) -> str:
    digest = hashlib.sha256(f"{type(model).__qualname__} {model.num_steps}".encode())
    leaves, structure = jax.tree.flatten((model, getattr(model, "__dict__", {})))
    digest.update(_text(structure).encode())
    for leaf in leaves:
        digest.update(
            np.asarray(leaf).tobytes() if hasattr(leaf, "dtype") else _text(leaf).encode()
        )
    return digest.hexdigest()


def _text(leaf: Any) -> str:
    # the repr of a function or plain object holds an address, another one in the next process
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(leaf))


class LeafCheckpointing:
    """How a model that is not `Checkpointable` is saved: as the leaves of its pytrees."""

    def __init__(self, model: Any):
        self._model = model

    def fingerprint(self) -> str:
        """Class, steps and the contents of every attribute."""
        return _fingerprint(self._model)

    def dump(self, state: Any) -> dict[str, Any]:
        """Leaves by number."""
        return {str(i): leaf for i, leaf in enumerate(jax.tree.leaves(state))}

    def load(self, key: Any, n: int, arrays: Mapping[str, np.ndarray]) -> Any:
        """Leaves in the structure that `init` gives, and of the kinds that it gives."""
        if getattr(self._model, "traceable", True):
            example = jax.eval_shape(lambda k: self._model.init(k, n)[0], key)
        else:
            example, _ = self._model.init(key, n)
        kinds, structure = jax.tree.flatten(example)
        if len(kinds) != len(arrays):
            raise CheckpointError(
                f"the state of {type(self._model).__name__} has {len(kinds)} arrays after init and "
                f"{len(arrays)} in the checkpoint; such a model needs fingerprint, dump and load"
            )
        leaves = [_like(kind, arrays[str(i)]) for i, kind in enumerate(kinds)]
        return jax.tree.unflatten(structure, leaves)


def _like(kind: Any, array: np.ndarray) -> Any:
    if isinstance(kind, np.ndarray):
        return array
    if isinstance(kind, bool | int | float):
        return array.item()
    return jnp.asarray(array)
