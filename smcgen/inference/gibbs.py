"""Particle Gibbs for parameters: paths given parameters, parameters given the path."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.arguments import check_counts, keys_of
from smcgen.core.compile import jitted
from smcgen.core.gibbs import Rejuvenate, plan_of
from smcgen.core.resampling import Scheme
from smcgen.core.sweep import Plan, TracedSweeps
from smcgen.errors import InvalidArgument, ModelError
from smcgen.inference.adapted import begin, run_chains
from smcgen.inference.parameters import Parameters, built, parameters
from smcgen.inference.result import ParameterChains
from smcgen.samplers.base import Kernel, Path, Point, Target
from smcgen.samplers.kernels import KERNELS, Custom, resolve
from smcgen.samplers.kernels.tuning import static


def log_joint(model: Any, path: PyTree) -> Any:
    """`log M_0 G_0 prod_t M_t G_t` along one path: `log p(x_{0:T}, y_{0:T})` of a state-space model, nats.

    Args:
        model: a `Markov` model with `log_initial` and `log_m`.
        path: records with time leading.
    """
    one = jax.tree.map(lambda x: x[:1], path)
    first = model.log_initial(one) + model.log_g(0, None, one)

    def term(t: Any) -> Any:
        at = lambda s: jax.tree.map(lambda x: x[s][None], path)
        return model.log_transition(t, at(t - 1), at(t))[0]

    times = jnp.arange(1, model.num_steps + 1, dtype=jnp.int32)
    return first[0] + jnp.sum(jax.vmap(term)(times))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class GivenPath(Path):
    """`p(u) p(x_{0:T}, y | theta)` at position 1, differentiable in u: what theta's kernel leaves invariant."""

    parameters: Parameters
    states: PyTree
    build: Callable[[PyTree], Any] = static(None)

    def sample(self, key: RandomKey) -> PyTree:
        """From the prior."""
        return self.parameters.draw(key)

    def evaluate(self, key: RandomKey | None, x: PyTree, at: Any) -> Point:
        """Prior and joint density."""
        model = built(self.build, self.parameters.constrained(x))
        return Point(x, self.parameters.log_prior(x), log_joint(model, self.states))


def particle_gibbs(
    build: Callable[[dict[str, Any]], Any],
    prior: Mapping[str, Any] | Parameters,
    key: RandomKey | int,
    n_samples: int = 1000,
    n_particles: int = 32,
    *,
    n_chains: int = 4,
    n_warmup: int = 500,
    thin: int = 1,
    kernel: str | Kernel = "nuts",
    moves: int = 1,
    rejuvenate: Rejuvenate = "ancestor",
    resampling: str | Scheme = "systematic",
    ess_threshold: float = 1.0,
    initial: Mapping[str, Any] | None = None,
) -> ParameterChains:
    """Sample parameters and states of a model: a sweep of particle Gibbs, then moves of the parameters.

    `x_{0:T} ~ K_theta(x_{0:T}, .)` leaves `p(x_{0:T} | y, theta)` invariant, and `theta` moves by a kernel that leaves
    `p(theta | x_{0:T}, y)` invariant, with gradients of the joint density (Andrieu, Doucet and Holenstein 2010,
    section 2.4.3). Compared with PMMH it needs few particles and suits many parameters, and is slow where
    parameters and states depend on each other strongly.

    Args:
        build: of parameters (a dictionary), a traceable `Markov` model with `log_initial` and `log_m`.
        prior: a NumPyro distribution for each parameter.
        key: a JAX key or a seed.
        n_samples, n_chains, n_warmup, thin: draws of each chain, chains, sweeps before, sweeps for each draw.
        n_particles, rejuvenate, resampling, ess_threshold: see `smcgen.particle_gibbs`.
        kernel: of the parameters: "nuts", "hmc", "mala", "random_walk" (blackjax) or a `smcgen.samplers.Kernel`.
        moves: of the parameters in each sweep.
        initial: parameters from which all chains start; default: draws from the prior.

    Returns:
        `ParameterChains` with paths.

    Raises:
        InvalidArgument, ModelError: an argument is not allowed.
        MissingExtra: numpyro or blackjax is not installed.
    """
    known = parameters(prior)
    check_counts(n_samples=n_samples, n_chains=n_chains, thin=thin, moves=moves)
    check_counts(least=0, n_warmup=n_warmup)
    chosen = resolve(kernel)
    if isinstance(chosen, Custom):  # it would not know the density, which changes with the path
        raise InvalidArgument("kernel", kernel, f"one of {sorted(KERNELS)} or a Kernel")
    plans: list[Plan] = []  # nothing is computed: a draw from the prior may be no model

    def look(key: Any) -> None:
        model = built(build, known.constrained(known.draw(key)))
        plans.append(plan_of(model, n_particles, rejuvenate, 0, resampling, ess_threshold))

    jax.eval_shape(look, jax.random.key(0))
    start = None if initial is None else known.unconstrained(initial)
    counts = (n_chains, n_warmup, n_samples, thin, moves)
    run = jitted(_run, GivenPath(known, (), build), static=(3, 4))
    chains = run(keys_of(key, None), chosen, start, plans[0], counts)
    if not bool(jnp.all(jnp.isfinite(chains.log_likelihood))):
        raise ModelError("the joint density of a path and its parameters is not finite")
    return chains


def _run(
    target: GivenPath,
    key: Any,
    kernel: Kernel,
    start: PyTree,
    plan: Plan,
    counts: tuple[int, int, int, int, int],
) -> ParameterChains:
    n_chains, n_warmup, n_samples, thin, moves = counts
    known = target.parameters
    sweeps = lambda u: TracedSweeps(built(target.build, known.constrained(u)), plan)
    draw_key, path_key, run_key = jax.random.split(key, 3)
    u, spread = begin(known.draw, draw_key, n_chains, start)
    first = lambda k, u: jax.tree.map(lambda x: x[0], sweeps(u).start(k, None, 1))
    paths = jax.vmap(first)(jax.random.split(path_key, n_chains), u)

    def step(key: Any, state: Any, tuning: Any) -> tuple[Any, Any]:
        u, path = state
        sweep_key, leave_key, *keys = jax.random.split(key, 2 + moves)
        sweep = sweeps(u).advance(sweep_key, jax.tree.map(lambda x: x[None], path), 1)
        path = jax.tree.map(lambda x: x[0], sweep.paths)
        now = Target(GivenPath(known, path, target.build), jnp.ones(()))
        inner = kernel.enter(now, now.evaluate(None, u), tuning)
        acceptance = jnp.zeros(())
        for k in keys:
            inner, moved = kernel.step(k, now, inner, tuning)
            acceptance += moved.acceptance / moves
        point = kernel.leave(leave_key, now, inner, tuning)
        shown = (point.x, point.log_likelihood, path, sweep.moved[0])
        return (point.x, path), (shown, acceptance)

    position = lambda state: state[0]
    shown, acceptance, _ = run_chains(
        step, position, kernel, run_key, (u, paths), spread, n_warmup, n_samples, thin
    )
    swapped = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), (*shown, acceptance))
    u, log_likelihood, paths, moved, acceptance = swapped
    samples = jax.vmap(jax.vmap(known.constrained))(u)
    return ParameterChains(samples, log_likelihood, acceptance, paths, moved)
