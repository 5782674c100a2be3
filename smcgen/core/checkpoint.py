"""Checkpoints: a run on disk after each step, as arrays with JSON metadata."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcgen.core.account import Carry
from smcgen.core.body import Info, Settings, record
from smcgen.core.leaves import LeafCheckpointing, from_leaf_arrays, leaf_arrays
from smcgen.core.resolve import Resolved
from smcgen.core.storage import check_folder, read_arrays, write_arrays
from smcgen.errors import CheckpointError

_VERSION = "3"


class Checkpoint:
    """The checkpoint file of one run."""

    def __init__(self, path: Path, model: Resolved, original: Any, keys: Any, settings: Settings):
        self._path, self._model, self._keys, self._settings = path, model, keys, settings
        self._as_arrays = model.checkpointing or LeafCheckpointing(original)
        check_folder(path)
        identity = [
            self._as_arrays.fingerprint(),
            str(jax.random.key_impl(keys)),
            np.asarray(jax.random.key_data(keys)).tolist(),
            repr(settings),
        ]
        self._identity = hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def write(self, t: int, carry: Carry, first: Info, infos: Sequence[Info]) -> None:
        """Write the run after step t."""
        arrays = {f"state/{k}": np.asarray(v) for k, v in self._as_arrays.dump(carry.state).items()}
        for name, value in carry._replace(state=None, chosen=None)._asdict().items():
            if value is not None:
                arrays[f"carry/{name}"] = np.asarray(value)
        for step, info in enumerate([first, *infos]):
            arrays |= {f"info/{step}/{k}": np.asarray(v) for k, v in _info_arrays(info).items()}
        metadata = {"version": _VERSION, "identity": self._identity, "t": str(t)}
        write_arrays(self._path, arrays, metadata)

    def read(self) -> tuple[int, Carry, Info, list[Info]] | None:
        """The run in the file: step, carry, infos; None if there is no file yet."""
        if not self._path.exists():
            return None
        arrays, metadata = read_arrays(self._path, f"checkpoint={str(self._path)!r}")
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
    return fields | {f"record/{k}": x for k, x in leaf_arrays(info.record).items()}


def _info(arrays: dict[str, np.ndarray], structure: Any) -> Info:
    start = "record/"
    leaves = from_leaf_arrays(
        {k[len(start) :]: v for k, v in arrays.items() if k.startswith(start)}
    )
    record = jax.tree.unflatten(structure, leaves)
    fields = {name: arrays.get(name) for name in Info._fields if name != "record"}
    return Info(**fields, record=record)
