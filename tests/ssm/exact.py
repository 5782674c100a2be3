"""Exact answers, in double precision: Kalman and hidden Markov filters by cuthbert, recursions on a grid."""

from functools import wraps

import cuthbert
import jax
import jax.numpy as jnp
import numpy as np
from cuthbert.discrete import build_filter as discrete_filter
from cuthbert.gaussian import kalman
from scipy import stats


def double(function):
    """Run in double precision, with numpy arrays out."""

    @wraps(function)
    def run(*arguments):
        with jax.enable_x64(True):
            return jax.tree.map(np.asarray, function(*arguments))

    return run


def conditioned(mean, cov, h, r, y):
    """Mean (n, d) and covariance of `p(x | y)`, and `log p(y)`: `x ~ N(mean, cov)`, `y ~ N(h x, r)`, unseen if NaN."""
    mean, cov, h, r, y = (np.asarray(v, np.float64) for v in (mean, cov, h, r, y))
    k = ~np.isnan(y)
    h, r, y = h[k], r[np.ix_(k, k)], y[k]
    s = h @ cov @ h.T + r
    gain = cov @ h.T @ np.linalg.inv(s)
    errors = y - mean @ h.T
    log_z = -0.5 * np.einsum("ni,ij,nj->n", errors, np.linalg.inv(s), errors)
    log_z -= 0.5 * np.linalg.slogdet(2 * np.pi * s)[1]
    return mean + errors @ gain.T, cov - gain @ h @ cov, log_z


@double
def linear(model, y, horizon=0):
    """log Z; filtered means and covariances at 0..T (+ horizon)."""
    mean, cov, a, q, h, r = (
        jnp.asarray(np.asarray(v, np.float64))
        for v in (model.mean, model.cov, model.A, model.Q, model.H, model.R)
    )
    y = np.asarray(y, np.float64)
    y = np.concatenate([y, np.full((horizon, y.shape[1]), np.nan)])
    return _kalman(mean, cov, lambda t: (a, jnp.zeros(len(mean))), q, h, r, y)


@double
def scalar(model, y, horizon=0):
    """The same for `models.Scalar`."""
    y = np.concatenate([np.asarray(y, np.float64), np.full(horizon, np.nan)])[:, None]
    one = lambda v: jnp.full((1, 1), np.float64(v))
    u = jnp.asarray(np.asarray(model.u.values, np.float64))
    move = lambda t: (one(model.a), u[t][None])
    square = lambda v: one(np.float64(np.float32(v)) ** 2)
    return _kalman(jnp.zeros(1), one(1.0), move, square(model.q), one(1.0), square(model.r), y)


def _kalman(mean, cov, move, q, h, r, y):
    # time 0 is a step that forgets where it comes from
    q_root, r_root = jnp.linalg.cholesky(q), jnp.linalg.cholesky(r)

    def dynamics(inputs):
        t, _ = inputs
        a, b = move(t)
        first = t == 0
        start = jnp.linalg.cholesky(cov)
        return (
            jnp.where(first, 0.0, a),
            jnp.where(first, mean, b),
            jnp.where(first, start, q_root),
        )

    observation = lambda inputs: (h, jnp.zeros(h.shape[0]), r_root, inputs[1])
    built = kalman.build_filter(jnp.zeros_like(mean), jnp.eye(len(mean)), dynamics, observation)
    inputs = (jnp.arange(len(y)), jnp.asarray(y))
    states = cuthbert.filter(built, inputs, built.init_prepare())
    covs = states.chol_cov @ jnp.swapaxes(states.chol_cov, -1, -2)
    return states.log_normalizing_constant[-1], states.mean[1:], covs[1:]


@double
def hidden(model, y):
    """log Z and the filtered laws at 0..T; y is -1 where it is missing."""
    start, move, seen = (
        jnp.asarray(np.asarray(v, np.float64)) for v in (model.start, model.P, model.B)
    )
    transition = lambda inputs: jnp.where(inputs[0] == 0, start[None, :], move)
    likelihood = lambda inputs: jnp.where(inputs[1] < 0, 0.0, jnp.log(seen[:, inputs[1]]))
    built = discrete_filter(start, transition, likelihood)
    inputs = (jnp.arange(len(y)), jnp.asarray(y))
    states = cuthbert.filter(built, inputs, built.init_prepare())
    return states.log_normalizing_constant[-1], states.dist[1:]


def grid(first, move, spread, log_g, y, low, high, points=800):
    """log Z and filtered means of `x_0 ~ N(first)`, `x_t ~ N(move(x), spread^2)`, on a fine grid."""
    x = np.linspace(low, high, points)
    step = x[1] - x[0]
    kernel = stats.norm.pdf(x[None, :], move(x)[:, None], spread) * step
    law, log_z, means = stats.norm.pdf(x, *first) * step, 0.0, []
    for t, value in enumerate(np.asarray(y, np.float64)):
        law = law @ kernel if t else law
        law = law * (1.0 if np.isnan(value) else np.exp(log_g(value, x)))
        log_z += np.log(law.sum())
        law /= law.sum()
        means.append(law @ x)
    return log_z, np.array(means)
