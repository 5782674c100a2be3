"""Particle marginal Metropolis-Hastings: a chain of parameters on estimated likelihoods."""

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.arguments import check_counts, keys_of, settings_of
from smcgen.core.compile import jitted
from smcgen.core.resampling import Scheme
from smcgen.inference.adapted import begin, run_chains
from smcgen.inference.estimated import FilterPath, proposing
from smcgen.inference.parameters import Parameters, parameters
from smcgen.inference.result import ParameterChains
from smcgen.samplers.base import Kernel, Target


def pmmh(
    build: Callable[[dict[str, Any]], Any],
    prior: Mapping[str, Any] | Parameters,
    key: RandomKey | int,
    n_samples: int = 1000,
    n_particles: int = 256,
    *,
    n_chains: int = 4,
    n_warmup: int = 500,
    thin: int = 1,
    kernel: str | Kernel | None = None,
    initial: Mapping[str, Any] | None = None,
    resampling: str | Scheme = "systematic",
    ess_threshold: float = 0.5,
) -> ParameterChains:
    """Sample the posterior of a model's parameters by PMMH with an adaptive proposal.

    Propose theta' by a random walk in real coordinates, run a particle filter, accept with probability
    `min(1, p-hat(y | theta') p(theta') / (p-hat(y | theta) p(theta)))`. The estimate of the present theta is
    kept, never made again; then the chain's marginal is the exact posterior, whatever the number of particles (Andrieu,
    Doucet and Holenstein 2010). It moves best where the standard deviation of `log p-hat` is about 1.2 (Doucet,
    Pitt, Deligiannidis and Kohn 2015). The proposal's covariance and scale are learned while warming up.

    Args:
        build: of parameters (a dictionary), a traceable model: `lambda theta: Bootstrap(Model(**theta), y)`.
        prior: a NumPyro distribution for each parameter.
        key: a JAX key or a seed.
        n_samples, n_chains, n_warmup, thin: draws of each chain, chains, steps before, steps for each draw.
        n_particles, resampling, ess_threshold: of the filters.
        kernel: proposes: "random_walk" (the default) or a `smcgen.samplers.Kernel` that uses no gradients.
        initial: parameters from which all chains start; default: draws from the prior.

    Returns:
        `ParameterChains`.

    Raises:
        InvalidArgument, ModelError: an argument is not allowed.
        MissingExtra: numpyro or blackjax is not installed.
    """
    path = FilterPath(
        parameters(prior), build, settings_of(n_particles, resampling, ess_threshold, "summary")
    )
    check_counts(n_samples=n_samples, n_chains=n_chains, thin=thin)
    check_counts(least=0, n_warmup=n_warmup)
    chosen = proposing(kernel, path)
    start = None if initial is None else path.parameters.unconstrained(initial)
    counts = (n_chains, n_warmup, n_samples, thin)
    run = jitted(_run, path, static=(3,))
    return run(keys_of(key, None), chosen, start, counts)


def _run(
    path: FilterPath, key: Any, kernel: Kernel, start: PyTree, counts: tuple[int, int, int, int]
) -> ParameterChains:
    n_chains, n_warmup, n_samples, thin = counts
    target = Target(path, jnp.int32(path.end))
    draw_key, first_key, run_key = jax.random.split(key, 3)
    draws, spread = begin(path.sample, draw_key, n_chains, start)
    points = jax.vmap(target.evaluate)(jax.random.split(first_key, n_chains), draws)

    def step(key: Any, point: Any, tuning: Any) -> tuple[Any, Any]:
        point, moved = kernel.step(key, target, point, tuning)
        return point, ((point.x, point.log_likelihood), moved.acceptance)

    position = lambda point: point.x
    shown, acceptance, _ = run_chains(
        step, position, kernel, run_key, points, spread, n_warmup, n_samples, thin
    )
    (u, log_likelihood), acceptance = jax.tree.map(
        lambda x: jnp.swapaxes(x, 0, 1), (shown, acceptance)
    )
    samples = jax.vmap(jax.vmap(path.parameters.constrained))(u)
    return ParameterChains(samples, log_likelihood, acceptance)
