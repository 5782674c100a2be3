"""The evidence between a lower and an upper bound."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from smcgen.core import compile as compiling
from smcgen.core._types import PyTree, RandomKey
from smcgen.core.arguments import keys_of, settings_of
from smcgen.core.conditional import check_pinnable, check_reference, conditional_smc
from smcgen.core.feynman_kac import Model
from smcgen.core.resampling import Scheme
from smcgen.core.smc import smc
from smcgen.errors import InvalidArgument


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class EvidenceBounds:
    """`E[lower] <= log Z <= E[upper]`.

    Attributes:
        lowers: log Z-hat of runs of SMC, shape (runs,); independent.
        uppers: log Z-hat of runs of conditional SMC, shape (runs,); a Markov chain.
    """

    lowers: Any
    uppers: Any

    @property
    def lower(self) -> Any:
        """Estimate of the lower bound, nats."""
        return jnp.mean(self.lowers, axis=-1)

    @property
    def upper(self) -> Any:
        """Estimate of the upper bound, nats."""
        return jnp.mean(self.uppers, axis=-1)

    @property
    def gap(self) -> Any:
        """`upper - lower`: Jeffreys' divergence between the laws of SMC and of conditional SMC."""
        return self.upper - self.lower

    @property
    def stderrs(self) -> tuple[Any, Any]:
        """Standard errors of both; that of the upper one as if its runs were independent."""
        runs = self.lowers.shape[-1]
        of = lambda x: jnp.std(x, axis=-1, ddof=1) / np.sqrt(runs) if runs > 1 else jnp.nan
        return of(self.lowers), of(self.uppers)

    def __repr__(self) -> str:
        low, up = (np.asarray(x) for x in self.stderrs)
        return (
            f"EvidenceBounds(lower={np.asarray(self.lower):.4g} ± {low:.2g}, "
            f"upper={np.asarray(self.upper):.4g} ± {up:.2g}, runs={self.lowers.shape[-1]})"
        )


def evidence_bounds(
    model: Model,
    key: RandomKey | int,
    reference: PyTree,
    n_particles: int = 256,
    *,
    runs: int = 16,
    resampling: str | Scheme = "systematic",
    ess_threshold: float = 0.5,
) -> EvidenceBounds:
    """Bound log Z from both sides: by SMC, and by conditional SMC from a draw of the target.

    With P the law of all variables of SMC, P' that of conditional SMC along a draw of the target, `dP'/dP = Z-hat/Z`:

        E_P[log Z-hat] = log Z - KL(P || P'),    E_P'[log Z-hat] = log Z + KL(P' || P)

    so both close in on log Z as n grows. The upper bound needs `reference` to be an exact draw from the target. For
    simulated data it is: draw x from the model, then y given x; x is a draw from `p(x | y)` (bidirectional Monte Carlo:
    Grosse, Ghahramani and Adams 2015; Grosse, Ancha and Roy 2016). For real data there is none, and what a
    long Markov chain gives instead makes the upper bound approximate.

    Later runs of conditional SMC follow a path picked from the run before: draws from the target too.

    Args:
        model: a model that can be pinned, see `smcgen.conditional_smc`; one problem.
        key: a JAX key or a seed.
        reference: a path drawn from the target: a record of the model for each time 0..T.
        n_particles: particles of every run.
        runs: of each kind.
        resampling, ess_threshold: see `smcgen.smc`.

    Raises:
        InvalidArgument: an argument is not allowed.
        ModelError: the model cannot be pinned.
    """
    check_pinnable(model)
    if isinstance(runs, bool) or not isinstance(runs, int) or runs < 1:
        raise InvalidArgument("runs", runs, "an integer >= 1")
    settings_of(n_particles, resampling, ess_threshold, "summary")
    check_reference(model, reference, n_particles)
    if getattr(model, "num_problems", None) is not None:
        raise InvalidArgument("model", "a model of several problems", "one problem at a time")
    keys = jax.random.split(keys_of(key, None), (2, runs))
    options = (n_particles, resampling, float(ess_threshold))
    if not getattr(model, "traceable", True):
        return _on_host(model, keys, reference, options)
    if compiling.inside_trace():
        return _traced(model, keys, reference, options)
    return compiling.jitted(_traced, model, static=(2,))(keys, reference, options)


def _traced(model: Any, keys: Any, reference: PyTree, options: Any) -> EvidenceBounds:
    def down(key: Any) -> Float[Array, ""]:
        return _lower(model, key, options)

    def up(path: PyTree, key: Any) -> tuple[PyTree, Any]:
        return _upper(model, key, path, options)

    uppers = jax.lax.scan(up, jax.tree.map(jnp.asarray, reference), keys[1])[1]
    return EvidenceBounds(jax.vmap(down)(keys[0]), uppers)


def _on_host(model: Any, keys: Any, path: PyTree, options: Any) -> EvidenceBounds:
    lowers, uppers = [_lower(model, key, options) for key in keys[0]], []
    for key in keys[1]:
        path, log_z = _upper(model, key, path, options)
        uppers.append(log_z)
    return EvidenceBounds(jnp.array(lowers), jnp.array(uppers))


def _lower(model: Any, key: Any, options: Any) -> Any:
    n, resampling, threshold = options
    run = smc(
        model,
        key,
        n,
        resampling=resampling,
        ess_threshold=threshold,
        keep="summary",
        on_error="return",
    )
    return run.log_evidence


def _upper(model: Any, key: Any, path: PyTree, options: Any) -> tuple[PyTree, Any]:
    n, resampling, threshold = options
    key, pick = jax.random.split(key)
    run = conditional_smc(
        model, key, path, n, resampling=resampling, ess_threshold=threshold, on_error="return"
    )
    return run.path(run.sample(pick)), run.log_evidence
