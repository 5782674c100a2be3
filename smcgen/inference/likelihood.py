"""Maximum likelihood: score, information and gradient ascent for the parameters of a model.

Fisher's identity gives the score as a smoothed sum,

    grad log p(y | theta) = E[ grad log p(x_0, y_0) + sum_t grad log p(x_t, y_t | x_{t-1}) | y ],

which `smcgen.smooth_additive` estimates with a variance that does not grow with T^2 (Poyiadjis, Doucet and
Singh 2011; Olsson and Westerborn 2017). Differentiating a filter with stop-gradient resampling gives the same along the
genealogy, and the information too (Scibior and Wood 2021).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.additive import smooth_additive
from smcgen.core.arguments import check_counts, keys_of
from smcgen.core.smc import smc
from smcgen.errors import InvalidArgument, MissingExtra, SmcgenError
from smcgen.progress import counted


def score(
    build: Callable[[PyTree], Any],
    theta: PyTree,
    key: RandomKey | int,
    n_particles: int = 256,
    *,
    draws: int | None = 2,
) -> PyTree:
    """Estimate `grad log p(y | theta)` by Fisher's identity.

    Args:
        build: of parameters (any pytree of floats), a traceable `Markov` model with `log_initial` and `log_m`.
        theta: parameters.
        key: a JAX key or a seed.
        n_particles: of the filter.
        draws: backward draws for each particle (PaRIS); None: the exact sum, O(n^2).

    Returns:
        The gradient, a pytree like theta.
    """
    run_key, smooth_key = jax.random.split(keys_of(key, None))
    theta = _floats(theta)
    model = build(theta)
    result = smc(model, run_key, n_particles, ess_threshold=1.0, keep="particles")
    flat, unravel = ravel_pytree(theta)

    def h(t: Any, x_prev: PyTree, x: PyTree) -> Any:
        """Gradient of each pair's term, shape (m, d)."""

        def one(prev: PyTree, now: PyTree) -> Any:
            alone = lambda tree: jax.tree.map(lambda v: v[None], tree)

            def term(flat: Any) -> Any:
                m, a, b = build(unravel(flat)), alone(prev), alone(now)
                start = lambda: (m.log_initial(b) + m.log_g(0, None, b))[0]
                later = lambda: m.log_transition(jnp.maximum(t, 1), a, b)[0]
                return jax.lax.cond(jnp.asarray(t) == 0, start, later)

            return jax.grad(term)(flat)

        return jax.vmap(one)(x_prev, x)

    return unravel(smooth_additive(model, result, h, smooth_key, draws=draws)[-1])


def _floats(theta: PyTree) -> PyTree:
    """Parameters as arrays of floats."""
    if not all(isinstance(x, int | float) or hasattr(x, "dtype") for x in jax.tree.leaves(theta)):
        raise InvalidArgument("theta", theta, "a pytree of floats")
    arrays = jax.tree.map(jnp.asarray, theta)
    if not all(jnp.issubdtype(x.dtype, jnp.floating) for x in jax.tree.leaves(arrays)):
        raise InvalidArgument("theta", theta, "a pytree of floats")
    return arrays


class Information(NamedTuple):
    """Derivatives of an estimated log-likelihood.

    Attributes:
        log_likelihood: the estimate.
        score: gradient, a pytree like theta.
        observed: observed information, minus the matrix of second derivatives, (d, d), order of `ravel_pytree(theta)`.
    """

    log_likelihood: Any
    score: PyTree
    observed: Any


def information(
    build: Callable[[PyTree], Any],
    theta: PyTree,
    key: RandomKey | int,
    n_particles: int = 1024,
    n_runs: int = 1,
) -> Information:
    """Log-likelihood, score and observed information of one estimate, by differentiating the filter.

    The second derivatives are noisy, and more so the longer the series: average over `n_runs` (by their
    likelihoods, as the mean of Z-hat).

    Args:
        build, theta, key, n_particles: as `score`; the model's draws must be differentiable in theta.
        n_runs: independent filters.
    """
    check_counts(n_runs=n_runs)
    theta = _floats(theta)
    flat, unravel = ravel_pytree(theta)
    keys = jax.random.split(keys_of(key, None), n_runs)

    def log_z(flat: Any) -> Any:
        one = lambda k: (
            smc(
                build(unravel(flat)), k, n_particles, resampling="stop_gradient", keep="summary"
            ).log_evidence
        )
        return jax.nn.logsumexp(jax.vmap(one)(keys)) - jnp.log(n_runs)

    value, gradient = jax.value_and_grad(log_z)(flat)
    return Information(value, unravel(gradient), -jax.hessian(log_z)(flat))


class Fit(NamedTuple):
    """A maximum-likelihood fit.

    Attributes:
        theta: parameters, the average of the last quarter of the iterations (Polyak and Ruppert).
        log_likelihood: estimate at each iteration.
        trace: theta at each iteration, leading axis iterations.
    """

    theta: PyTree
    log_likelihood: np.ndarray
    trace: PyTree


def maximum_likelihood(
    build: Callable[[PyTree], Any],
    theta: PyTree,
    key: RandomKey | int,
    n_particles: int = 256,
    n_steps: int = 200,
    *,
    optimizer: Any = None,
    progress: bool = False,
) -> Fit:
    """Climb the likelihood by stochastic gradients of a particle filter.

    Args:
        build: of parameters (any pytree of floats, in coordinates without constraints: take `exp` of a log scale), a
            traceable model whose draws are differentiable in theta.
        theta: where to start.
        key: a JAX key or a seed.
        n_particles: of the filter.
        n_steps: iterations.
        optimizer: an optax optimiser; default Adam with a learning rate that falls from .05 to 0 by a cosine.
        progress: show a progress bar.

    Returns:
        A `Fit`.

    Raises:
        InvalidArgument: theta has leaves that are no floats; `n_steps` is no integer >= 1.
        SmcgenError: the likelihood stopped being finite; the message says where.
        MissingExtra: optax is not installed.
    """
    try:
        import optax
    except ImportError as error:
        raise MissingExtra("maximum likelihood", "optax", "learn") from error
    check_counts(n_steps=n_steps)
    theta = _floats(theta)
    optimizer = optimizer or optax.adam(optax.cosine_decay_schedule(0.05, n_steps))

    @jax.jit
    def step(theta: PyTree, state: Any, key: Any) -> tuple[PyTree, Any, Any]:
        def loss(theta: PyTree) -> Any:
            run = smc(build(theta), key, n_particles, resampling="stop_gradient", keep="summary")
            return -run.log_evidence

        value, gradient = jax.value_and_grad(loss)(theta)
        updates, state = optimizer.update(gradient, state, theta)
        return optax.apply_updates(theta, updates), state, -value

    state, values, trace = optimizer.init(theta), [], []
    key = keys_of(key, None)
    for i in counted(n_steps, "maximum likelihood", progress):
        theta, state, value = step(theta, state, jax.random.fold_in(key, i))
        values.append(float(value))
        trace.append(theta)
        if not np.isfinite(values[-1]):
            before = trace[-2] if i else theta
            raise SmcgenError(
                f"the log-likelihood is {values[-1]} at iteration {i}, theta = {before}"
            )
    stacked = jax.tree.map(lambda *x: jnp.stack(x), *trace)
    last = max(n_steps // 4, 1)
    mean = jax.tree.map(lambda x: jnp.mean(x[-last:], axis=0), stacked)
    return Fit(mean, np.array(values), stacked)
