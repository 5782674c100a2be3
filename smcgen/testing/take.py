"""`take` moves everything that belongs to a particle."""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np

from smcgen.core.arguments import keys_of
from smcgen.core.genealogy import gridded
from smcgen.core.resolve import resolve
from smcgen.errors import InvalidArgument
from smcgen.testing.laws import LawBroken


def check_take(
    model: Any,
    *,
    key: Any = 0,
    n_particles: int = 5,
    steps: int = 1,
    probe: Callable[[Any], Any] | None = None,
    rtol: float = 1e-4,
    atol: float = 1e-5,
) -> int:
    """Check that after `take(state, a)` particle i is in every respect what particle `a[i]` was.

    After `steps` steps the population is reordered by ancestors with copies. Everything that can be seen of the
    state must be that of the ancestors: the model's record, each array of a state that is a pytree, and what `probe`
    shows of what an engine or a cache holds (the law of the next token, a gradient): the state that a
    forgetful `take` leaves behind.

    Args:
        model: any Feynman-Kac model with at least `steps` steps.
        key: a JAX key or a seed.
        n_particles: particles (of each problem).
        steps: steps before the reordering.
        probe: arrays that are determined by a particle's state, particle axis leading (after that of problems, or rows
            of all problems); compared to `rtol`, `atol`, since they are computed.
        rtol, atol: how close.

    Returns:
        How many arrays were compared.

    Raises:
        LawBroken: an array does not follow its ancestors; the message names it.
        InvalidArgument: the model has fewer steps.
    """
    resolved = resolve(model)
    resolved = resolved if resolved.traceable else resolved.on_host()
    if steps > resolved.num_steps:
        raise InvalidArgument("steps", steps, f"at most num_steps = {resolved.num_steps}")
    problems = () if resolved.num_problems is None else (resolved.num_problems,)
    keys = keys_of(key, resolved.num_problems)
    split = lambda t: (
        jax.random.fold_in(keys, t)
        if not problems
        else jax.vmap(lambda k: jax.random.fold_in(k, t))(keys)
    )
    state, _ = resolved.init(split(0), n_particles)
    for t in range(1, steps + 1):
        state, _ = resolved.step(split(t), t, state)
    shape = (*problems, n_particles)
    before = _seen(resolved, state, shape, probe)
    rng = np.random.default_rng(0)
    first = np.broadcast_to(rng.permutation(n_particles), shape)
    second = rng.integers(0, n_particles, shape)  # with copies, and some that are left out
    state = resolved.take(resolved.take(state, first.astype(np.int32)), second.astype(np.int32))
    ancestors = np.take_along_axis(first, second, -1)
    after = _seen(resolved, state, shape, probe)
    for name, old in before.items():
        if name not in after:
            raise LawBroken(f"take: {name} is gone")
        place = ancestors if not problems else (np.arange(problems[0])[:, None], ancestors)
        expected, found = old[place], after[name]
        if found.shape != expected.shape or not np.allclose(
            found, expected, rtol, atol, equal_nan=True
        ):
            raise LawBroken(f"take: {name} does not follow the ancestors {ancestors.tolist()}")
    if not before:
        raise InvalidArgument(
            "probe", None, "a function: nothing of this model's state can be seen"
        )
    return len(before)


def _seen(
    resolved: Any, state: Any, shape: tuple[int, ...], probe: Callable | None
) -> dict[str, np.ndarray]:
    """Every numeric array with a particle axis that a state shows, by name."""
    views = {"state": state, "record": resolved.record(state) if resolved.record else None}
    views["probe"] = probe(state) if probe else None
    found = {}
    for view, tree in views.items():
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
            if not hasattr(leaf, "dtype") or jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                continue
            values = np.array(leaf)
            rows = values.shape[:1] == (int(np.prod(shape)),)
            if values.shape[: len(shape)] == shape or rows:
                found[view + jax.tree_util.keystr(path)] = gridded(values, shape)
    return found
