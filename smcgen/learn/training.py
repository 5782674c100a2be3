"""The one training loop: gradient steps in compiled chunks, watched and saved between them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.core import Tracer
from jaxtyping import Float

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.arguments import keys_of
from smcgen.errors import InvalidArgument, SmcgenError
from smcgen.learn import saving

_CHUNK = 50  # steps of one dispatch


class Step(NamedTuple):
    """What a callback is told after each chunk of steps."""

    step: int
    steps: int
    loss: float  # mean over the chunk's steps that were finite
    params: PyTree


class FitError(SmcgenError):
    """A fit failed. `error.result` is the `Fit` so far."""

    def __init__(self, message: str, result: "Fit"):
        super().__init__(message)
        self.result = result


@dataclass(frozen=True, repr=False)
class Fit:
    """What a fit returns.

    Attributes:
        params: parameters after the last step.
        losses: the loss of each step, shape (steps,), before its update; not finite where a step was skipped.
    """

    params: PyTree
    losses: Float[np.ndarray, " steps"]

    def save(self, path: str | Path) -> None:
        """The parameters as safetensors; `load_params` reads them."""
        saving.save_params(path, self.params)

    def __repr__(self) -> str:
        size = sum(np.size(x) for x in jax.tree.leaves(self.params))
        tenth = max(len(self.losses) // 10, 1)
        ends = [
            np.mean(x) if len(x) else np.nan for x in (self.losses[:tenth], self.losses[-tenth:])
        ]
        return (
            f"Fit({size} parameters, {len(self.losses)} steps, loss {ends[0]:.4g} -> {ends[1]:.4g})"
        )


def train(
    loss: Callable[[PyTree, RandomKey], tuple[Any, Any]],
    params: PyTree,
    key: RandomKey | int,
    *,
    steps: int,
    optimiser: optax.GradientTransformation | None = None,
    progress: bool = False,
    callback: Callable[[Step], None] | None = None,
    checkpoint: str | Path | None = None,
    identity: str = "",
) -> Fit:
    """Minimise `E[loss(params, key)]`; step i has the key `fold_in(key, i)`.

    Args:
        loss: to (value to report, value to differentiate).
        params: where to begin, a pytree of float arrays.
        key: a JAX key or a seed.
        steps: gradient steps. One whose gradient is not finite is skipped.
        optimiser: an optax optimiser; Adam at 0.01 by default.
        progress: show a progress bar.
        callback: called with a `Step` after each chunk of steps.
        checkpoint: a file written after each chunk. If it exists, the fit goes on from it, and gives what the
            uninterrupted fit would have given.
        identity: what else tells this fit from another, for the checkpoint.

    Raises:
        InvalidArgument: an argument is not allowed.
        CheckpointError: the file cannot be read, or is of another fit.
        FitError: no step of a whole chunk was finite.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 0:
        raise InvalidArgument("steps", steps, "an integer >= 0")
    params = _floats(params)
    chosen = optax.adam(1e-2) if optimiser is None else optimiser
    key = keys_of(key, None)

    def step(carry: Any, i: Any) -> tuple[Any, Any]:
        params, state = carry

        def of(params: PyTree) -> tuple[Any, Any]:
            value, surrogate = loss(params, jax.random.fold_in(key, i))
            return surrogate, value

        slopes, value = jax.grad(of, has_aux=True)(params)
        updates, new_state = chosen.update(slopes, state, params)
        new = optax.apply_updates(params, updates), new_state
        fine = jnp.all(jnp.array([jnp.all(jnp.isfinite(g)) for g in jax.tree.leaves(slopes)]))
        carry = jax.tree.map(lambda a, b: jnp.where(fine, a, b), new, carry)
        return carry, jnp.where(fine, value, jnp.nan)

    chunk = jax.jit(
        lambda carry, start, size: jax.lax.scan(step, carry, start + jnp.arange(size)),
        static_argnums=2,
    )
    carry, losses = (params, chosen.init(params)), np.zeros(0, np.float32)
    file = saving.TrainingFile(checkpoint, key, f"{identity} steps={steps}") if checkpoint else None
    if file and (saved := file.read(carry)):
        carry, losses = saved
    shown = _bar(steps) if progress else None
    try:
        while len(losses) < steps:
            size = min(_CHUNK, steps - len(losses))
            carry, new = chunk(carry, len(losses), size)
            losses = np.concatenate([losses, np.asarray(new, np.float32)])
            if not np.isfinite(losses[-size:]).any():
                raise FitError(
                    f"no step from {len(losses) - size} to {len(losses) - 1} had a finite gradient; "
                    "error.result has the fit so far. Do all particles die, or is the learning rate too high?",
                    Fit(carry[0], losses),
                )
            if file:
                file.write(carry, losses)
            if callback:
                callback(Step(len(losses), steps, float(np.nanmean(losses[-size:])), carry[0]))
            if shown:
                shown(len(losses))
    finally:
        if shown:
            shown.close()
    return Fit(carry[0], losses)


def _floats(params: PyTree) -> PyTree:
    params = jax.tree.map(jnp.asarray, params)
    for x in jax.tree.leaves(params):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            raise InvalidArgument("params", f"an array of {x.dtype}", "arrays of floats to learn")
        if not isinstance(x, Tracer) and not bool(jnp.all(jnp.isfinite(x))):
            raise InvalidArgument(
                "params", "an array that is not finite", "finite numbers to begin with"
            )
    return params


def _bar(steps: int) -> Any:
    from smcgen.progress import CountBar

    return CountBar("steps", steps)
