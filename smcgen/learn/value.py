"""Twists from experience: what a record promises, regressed on what came of it.

For models that Python drives (texts, images) there is no kernel to integrate; but runs leave records and
returns behind, and a small network learns from them what a state is worth. Use what it says as a twist: an
intermediate reward of diffusion, the value of a text, a `Lookahead`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen
from jaxtyping import Array, Float

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.arguments import keys_of
from smcgen.core.result import SMCResult
from smcgen.errors import InvalidArgument, UnknownName
from smcgen.learn.training import Fit, Step, train
from smcgen.learn.twists.network import check_output, outputs, rows


@dataclass(frozen=True, repr=False)
class LearnedTwist:
    """A fitted twist: `twist(records)` is `log psi` of each, shape (n,), nats.

    Attributes:
        fit: the module's parameters, and the losses.
        module: the flax module, from standardised records (n, d) to (n,) or (n, 1).
        centre, scale: what records are standardised by, shape (d,).
        level: what is added to the module's output.
    """

    fit: Fit
    module: linen.Module
    centre: Any
    scale: Any
    level: Any

    def __call__(self, records: Float[Array, "n *event"] | Float[np.ndarray, "n *event"]) -> Any:
        z = (rows(jnp.asarray(records)) - self.centre) / self.scale
        return self.level + outputs(self.module, self.fit.params, z)

    def __repr__(self) -> str:
        return f"LearnedTwist({type(self.module).__name__}, {self.fit!r})"


def fit_twist(
    records: Any,
    log_returns: Any,
    module: linen.Module,
    optimiser: optax.GradientTransformation | None = None,
    *,
    loss: Literal["poisson", "squared"] = "poisson",
    steps: int = 1000,
    batch: int = 256,
    key: RandomKey | int = 0,
    progress: bool = False,
    callback: Callable[[Step], None] | None = None,
    checkpoint: str | Path | None = None,
) -> LearnedTwist:
    """Learn `log psi(record)` from what records were followed by.

    With R the product of the potentials that came after a record (`log_returns` is its log), minimise over f

        "poisson"   E[ exp(f) - R f ]        at its least where exp(f) = E[R | record]: the optimal twist
        "squared"   E[ (f - log R)^2 ]       f = E[log R | record], which is less (Jensen); for returns that spread
                                             over many nats, where a few would decide all of the first

    Futures must be draws of the model itself, not of a population that was resampled: `smcgen.learn.log_returns`
    takes them from runs with `ess_threshold=0`. Whatever comes out, as a twist it changes the variance alone.

    Args:
        records: one row of numbers for each, shape (N, ...); time, if it matters, is a column.
        log_returns: shape (N,), nats; -inf is a return of 0, which "poisson" can learn from.
        module: a flax module from (n, d) to (n,) or (n, 1); records come standardised.
        optimiser: an optax optimiser; Adam at 0.01 by default.
        loss, steps: see above.
        batch: records of each gradient step, drawn at random.
        key: a JAX key or a seed.
        progress, callback, checkpoint: see `smcgen.learn.train`.

    Raises:
        InvalidArgument: records or returns of a wrong shape, or not finite.
        ModelError: the module does not give one number for each row.
    """
    if loss not in ("poisson", "squared"):
        raise UnknownName("loss", loss, ("poisson", "squared"))
    x, r = _checked(records, log_returns, loss)
    level = jax.nn.logsumexp(r) - jnp.log(len(r)) if loss == "poisson" else jnp.mean(r)
    if not jnp.isfinite(level):
        raise InvalidArgument("log_returns", "returns that are all 0", "some that are not")
    centre, scale = jnp.mean(x, axis=0), jnp.std(x, axis=0) + 1e-6
    z = (x - centre) / scale
    target = jnp.exp(r - level) if loss == "poisson" else r - level
    begin, key = jax.random.split(keys_of(key, None))
    params = module.init(begin, z[:2])
    check_output(module, params, z[:2])

    def objective(params: PyTree, key: Any) -> tuple[Any, Any]:
        chosen = jax.random.randint(key, (min(batch, len(r)),), 0, len(r))
        f = outputs(module, params, z[chosen])
        goal = target[chosen]
        value = jnp.mean(jnp.exp(f) - goal * f if loss == "poisson" else (f - goal) ** 2)
        return value, value

    found = train(
        objective,
        params,
        key,
        steps=steps,
        optimiser=optimiser,
        progress=progress,
        callback=callback,
        checkpoint=checkpoint,
        identity=f"{loss} {batch} {x.shape}",
    )
    return LearnedTwist(found, module, centre, scale, level)


def log_returns(result: SMCResult) -> Float[Array, "times *p n"]:
    """`sum_{s > t} log G_s` of each particle at t = 0..T, for `fit_twist`; 0 at T.

    Args:
        result: a run with `ess_threshold=0` and `keep="particles"`.

    Raises:
        InvalidArgument: the run resampled, so that its particles have no futures of their own, or kept nothing.
    """
    if result.history_log_weights is None:
        raise InvalidArgument("keep", "ancestors", "'particles' to know each particle's potentials")
    if np.any(np.asarray(result.resampled)):
        raise InvalidArgument("result", "a run that resampled", "one with ess_threshold=0")
    so_far = jnp.cumsum(result.log_evidence_increments, axis=0)[..., None]
    worth = result.history_log_weights + so_far
    # from 0 to 0: a particle that died has earned nothing since
    return jnp.where(
        worth[-1] == -jnp.inf, jnp.where(worth == -jnp.inf, 0.0, -jnp.inf), worth[-1] - worth
    )


def _checked(records: Any, returns: Any, loss: str) -> tuple[Array, Array]:
    x, r = np.asarray(records), np.asarray(returns)
    if x.ndim < 1 or r.shape != x.shape[:1] or not len(r):
        raise InvalidArgument(
            "log_returns", f"shape {r.shape}", f"one for each record: {x.shape[:1]}"
        )
    if x.dtype.kind not in "fiub" or not np.isfinite(x).all():
        raise InvalidArgument("records", "values that are not finite numbers", "finite numbers")
    allowed = np.isfinite(r) | ((r == -np.inf) & (loss == "poisson"))
    if not allowed.all():
        finite = "finite numbers or -inf" if loss == "poisson" else "finite numbers"
        raise InvalidArgument(
            "log_returns", f"{r[~allowed][0]} at {int(np.argmin(allowed))}", finite
        )
    return rows(jnp.asarray(x, jnp.float32)), jnp.asarray(r, jnp.float32)
