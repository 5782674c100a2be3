"""Arrays on disk: safetensors, written atomically, so that a kill at any moment leaves a good file."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from smcgen.errors import CheckpointError


def check_folder(path: Path) -> None:
    """Raise `CheckpointError` unless a checkpoint can be written there."""
    if not path.parent.is_dir():
        raise CheckpointError(
            f"checkpoint={str(path)!r}: the folder {str(path.parent)!r} does not exist"
        )


def write_arrays(path: Path, arrays: Mapping[str, Any], metadata: dict[str, str]) -> None:
    """A new file replaces the old one."""
    temporary = path.with_name(path.name + ".part")
    save_file({k: np.array(v, order="C") for k, v in arrays.items()}, temporary, metadata)
    os.replace(temporary, path)


def read_arrays(path: Path, shown: str) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Arrays and metadata.

    Raises:
        CheckpointError: `shown` cannot be read.
    """
    try:
        with safe_open(path, "numpy") as file:
            arrays = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
            return arrays, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{shown} cannot be read: {error}") from error
