"""Conditional SMC: a particle filter in which one particle follows a given path."""

from typing import Any, Literal

import jax
import numpy as np

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.arguments import keys_of, settings_of
from smcgen.core.body import Keep
from smcgen.core.feynman_kac import Model
from smcgen.core.resampling import Scheme, conditional
from smcgen.core.resolve import resolve
from smcgen.core.result import SMCResult
from smcgen.core.run import execute
from smcgen.errors import InvalidArgument, ModelError


def conditional_smc(
    model: Model,
    key: RandomKey | int,
    reference: PyTree,
    n_particles: int = 32,
    *,
    resampling: str | Scheme = "systematic",
    ess_threshold: float = 1.0,
    ancestor_sampling: bool = False,
    keep: Keep = "particles",
    on_error: Literal["raise", "return"] = "raise",
) -> SMCResult:
    """Run a particle filter given that particle 0 follows the path `reference`.

    The law of everything else is that of SMC given that path. If the path is a draw from the target pi, and a
    new path is picked by the final weights (`result.path(result.sample(key))`), the new one is a draw
    from pi too, for every n >= 2 (Andrieu, Doucet and Holenstein 2010; other schemes than
    multinomial: Chopin and Singh 2015, Karppinen, Singh and Vihola 2024; adaptive resampling keeps this).

    Args:
        model: a model that can be pinned: a `Markov` model, or one with `init_pinned` and `step_pinned`.
        key: a JAX key or a seed.
        reference: a path: a record of the model for each time 0..T, as `SMCResult.path` gives.
        n_particles: particles, the reference included.
        resampling: a scheme with a conditional law, or its name.
        ess_threshold: resample when ESS falls below this fraction of n; 1 always, 0 never.
        ancestor_sampling: give the reference's future a new past whenever there is a resampling
            (Lindsten, Jordan and Schön 2014); the model needs `log_continue`.
        keep: see `smcgen.smc`. A new path needs "particles", unless the final particles hold their paths.
        on_error: see `smcgen.smc`.

    Returns:
        An `SMCResult` whose particle 0 is the reference, with another past after ancestor sampling.
        `exp(-log_evidence)` is unbiased for 1 / Z if the reference is a draw from the target.

    Raises:
        InvalidArgument: an argument is not allowed; a scheme without a conditional law; a reference of another shape.
        ModelError: the model cannot be pinned, or has no `log_continue`.
        SMCError: the run failed.
    """
    check_pinnable(model, ancestor_sampling)
    settings = settings_of(n_particles, resampling, ess_threshold, keep, bool(ancestor_sampling))
    conditional(settings.resampler.scheme)
    if reference is None:
        raise InvalidArgument(
            "reference", reference, "a path of the model, as SMCResult.path gives"
        )
    check_reference(model, reference, settings.n)
    return execute(model, key, settings, on_error, path=reference)


def check_pinnable(model: Any, ancestor_sampling: bool = False) -> None:
    """Raise a `ModelError` unless conditional SMC can run on this model."""
    resolved = resolve(model)
    wanted = ["init_pinned", "step_pinned"] + ["log_continue"] * ancestor_sampling
    lacking = [name for name in wanted if getattr(resolved, name) is None]
    if lacking:
        raise ModelError(
            f"{type(model).__name__} lacks {', '.join(lacking)}: conditional SMC"
            f"{' with ancestor sampling' * ancestor_sampling} needs a smcgen.Markov model"
            f"{' with log_m' * ancestor_sampling}, or a FeynmanKac model with these methods"
        )


def _common(records: PyTree, reference: PyTree) -> list[tuple[Any, Any]]:
    """Leaves of both; none if they are built differently. A reference may leave out what it does not know: None, ()."""
    if not jax.tree.leaves(reference):
        return []
    parts = lambda x: jax.tree.flatten(x, is_leaf=lambda y: y is not x)
    (ours, structure), (theirs, other) = parts(records), parts(reference)
    if structure != other:
        return []
    if jax.tree_util.treedef_is_leaf(structure):
        return [(records, reference)]
    found = [(b, _common(a, b)) for a, b in zip(ours, theirs, strict=True)]
    if any(jax.tree.leaves(b) and not pairs for b, pairs in found):
        return []
    return [pair for _, pairs in found for pair in pairs]


def check_reference(model: Any, reference: PyTree, n: int, n_chains: int | None = None) -> bool:
    """Whether there is a path for each chain; raise `InvalidArgument` unless paths have a record for each time.

    Nothing is computed. Indexing beyond its end would repeat the last record, and another shape would be broadcast.
    """
    resolved = resolve(model)
    if not resolved.traceable:
        return n_chains is not None and _are_paths(reference, n_chains)
    axis = 0 if resolved.num_problems is None else 1

    def record(key: Any) -> PyTree:
        state, _ = resolved.init(key, n)
        return resolved.record(state) if resolved.record else state

    keys = jax.eval_shape(lambda: keys_of(0, resolved.num_problems))
    times = resolved.num_steps + 1
    shape = lambda x: (times, *x.shape[:axis], *x.shape[axis + 1 :])
    records = jax.eval_shape(record, keys)
    pairs = _common(records, reference)
    if pairs and all(shape(a) == np.shape(b) for a, b in pairs):
        return False
    if pairs and n_chains and all((n_chains, *shape(a)) == np.shape(b) for a, b in pairs):
        return True
    wanted, found = jax.tree.map(shape, records), jax.tree.map(np.shape, reference)
    each = f", or with {n_chains} chains leading" if n_chains else ""
    allowed = f"a path of {times} records, shape {wanted}, as SMCResult.path gives{each}"
    raise InvalidArgument("reference", f"shape {found}", allowed)


def _are_paths(reference: Any, n_chains: int) -> bool:
    """Whether this is a list of paths, which are lists of records."""
    lists = isinstance(reference, list) and bool(reference)
    several = lists and all(isinstance(path, list) for path in reference)
    if several and len(reference) != n_chains:
        raise InvalidArgument("reference", f"{len(reference)} paths", f"one, or {n_chains}")
    return several
