"""Checkpoints of a model that says nothing about them: the leaves of its pytrees."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcgen.errors import CheckpointError


class LeafCheckpointing:
    """How a model without `fingerprint`, `dump` and `load` of its own is saved."""

    def __init__(self, model: Any):
        self._model = model

    def fingerprint(self) -> str:
        """Class, steps and the contents of every attribute."""
        model = self._model
        digest = hashlib.sha256(f"{type(model).__qualname__} {model.num_steps}".encode())
        leaves, structure = jax.tree.flatten(model)
        if jax.tree_util.treedef_is_leaf(structure):  # no pytree: what it holds
            leaves, structure = jax.tree.flatten((model, getattr(model, "__dict__", {})))
        digest.update(_text(structure).encode())
        for leaf in leaves:
            if isinstance(leaf, np.ndarray | np.generic | jax.Array) or _is_torch(leaf):
                name, array = _named_array("", leaf)
                digest.update(name.encode() + np.asarray(array).tobytes())
            else:
                digest.update(_text(leaf).encode())
        return digest.hexdigest()

    def dump(self, state: Any) -> dict[str, Any]:
        """Leaves by number."""
        return leaf_arrays(state)

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
        leaves = map(_like, kinds, from_leaf_arrays(arrays))
        return jax.tree.unflatten(structure, leaves)


def leaf_arrays(tree: Any) -> dict[str, Any]:
    """The leaves of a pytree by number; PRNG keys as their data, the generator in the name; torch tensors as NumPy."""
    return dict(_named_array(str(i), leaf) for i, leaf in enumerate(jax.tree.leaves(tree)))


def from_leaf_arrays(arrays: Mapping[str, np.ndarray]) -> list[Any]:
    """What `leaf_arrays` was given, in order."""
    leaves = {}
    for name, array in arrays.items():
        number, _, generator = name.partition(" ")
        leaves[int(number)] = (
            jax.random.wrap_key_data(jnp.asarray(array), impl=generator) if generator else array
        )
    return [leaves[i] for i in range(len(leaves))]


def _named_array(name: str, leaf: Any) -> tuple[str, Any]:
    if _is_torch(leaf):
        leaf = leaf.detach().cpu()
        return name, (leaf.float() if str(leaf.dtype) == "torch.bfloat16" else leaf).numpy()
    if not (isinstance(leaf, jax.Array) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)):
        return name, leaf
    return f"{name} {jax.random.key_impl(leaf)}", jax.random.key_data(leaf)


def _like(kind: Any, array: Any) -> Any:
    if isinstance(kind, np.ndarray):
        return array
    if isinstance(kind, bool | int | float):
        return array.item()
    if _is_torch(kind):
        return kind.new_tensor(array)  # on its device, of its type
    return jnp.asarray(array)


def _is_torch(leaf: Any) -> bool:
    return type(leaf).__module__ == "torch"


def _text(leaf: Any) -> str:
    # the repr of a function or plain object holds an address, another one in the next process
    return re.sub(r" at 0x[0-9a-fA-F]+", "", repr(leaf))
