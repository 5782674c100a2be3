"""Targets whose evidence and posterior are known: linear-Gaussian, logistic, Ising, sequential, constrained."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
from jax.scipy.stats import norm
from jax.tree_util import Partial
from scipy import special, stats

from smcgen.samplers import Algorithm, RandomWalk, Tempering


def draw_normal(d, key):
    return jax.random.normal(key, (d.shape[0],))


def log_normal(x):
    return jnp.sum(norm.logpdf(x))


def log_linear(data, x):
    return jnp.sum(norm.logpdf(data["y"], data["X"] @ x, data["sigma"]))


def linear(X, y, sigma):
    """x ~ N(0, I), y ~ N(X x, sigma^2 I)."""
    data = {"X": jnp.asarray(X, jnp.float32), "y": jnp.asarray(y, jnp.float32), "sigma": sigma}
    return Tempering(Partial(draw_normal, data["X"][0]), log_normal, Partial(log_linear, data))


def exact_linear(X, y, sigma):
    """log Z, posterior mean and covariance."""
    X, y = np.asarray(X, np.float64), np.asarray(y, np.float64)
    d = X.shape[1]
    covariance = np.linalg.inv(np.eye(d) + X.T @ X / sigma**2)
    mean = covariance @ X.T @ y / sigma**2
    marginal = stats.multivariate_normal(np.zeros(len(y)), X @ X.T + sigma**2 * np.eye(len(y)))
    return marginal.logpdf(y), mean, covariance


_rng = np.random.default_rng(7)
X3 = np.round(_rng.normal(size=(6, 3)), 1)
Y3 = np.round(X3 @ [1.0, -0.5, 0.3] + 0.7 * _rng.normal(size=6), 1)
SIGMA = 0.7


# ---- logistic regression with two coefficients ---------------------------------------------------------------


def log_logistic(data, x):
    logits = data["X"] @ x
    return jnp.sum(jax.nn.log_sigmoid(jnp.where(data["hit"], logits, -logits)))


def logistic(X, hit):
    """x ~ N(0, I), hit ~ Bernoulli(sigmoid(X x))."""
    data = {"X": jnp.asarray(X, jnp.float32), "hit": jnp.asarray(hit)}
    return Tempering(Partial(draw_normal, data["X"][0]), log_normal, Partial(log_logistic, data))


def exact_logistic(X, hit):
    """Evidence and posterior mean, on a grid that is fine and wide: to ten digits for a smooth density."""
    axis = np.linspace(-8, 8, 401)
    x = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1)
    logits = x @ np.asarray(X, np.float64).T
    density = stats.norm.pdf(x).prod(-1) * special.expit(np.where(hit, logits, -logits)).prod(-1)
    mass = density * (axis[1] - axis[0]) ** 2
    return mass.sum(), (mass[..., None] * x).sum((0, 1)) / mass.sum()


LINEAR = linear(X3, Y3, SIGMA)
LADDER = (0.1, 0.35, 1.0)


def fixed_walk(d=3, variance=0.3):
    """A random walk that is not tuned, so that E[Z-hat] = Z at any n."""
    return RandomWalk(acceptance=None, covariance=jnp.full(d, variance))


# ---- the Ising model on a 3 x 3 grid: tempering from independent fair spins to inverse temperature beta ----------

SIDE = 3


def bonds(spins):
    """Sum over neighbours of s_i s_j."""
    return jnp.sum(spins[1:] * spins[:-1]) + jnp.sum(spins[:, 1:] * spins[:, :-1])


def draw_spins(key):
    return 2 * jax.random.bernoulli(key, 0.5, (SIDE, SIDE)).astype(jnp.int32) - 1


def log_fair(spins):
    return jnp.float32(-SIDE * SIDE * np.log(2))


def log_ising(beta, spins):
    return beta * bonds(spins).astype(jnp.float32)


def ising(beta):
    return Tempering(draw_spins, log_fair, Partial(log_ising, jnp.float32(beta)))


def gibbs(beta, key, spins, at):
    """One Gibbs update of one spin, drawn at random."""
    place, coin = jax.random.split(key)
    i = jax.random.randint(place, (), 0, SIDE * SIDE)
    up = spins.at[i // SIDE, i % SIDE].set(1)
    field = at * beta * (bonds(up) - bonds(up.at[i // SIDE, i % SIDE].set(-1)))
    new = jnp.where(jax.random.uniform(coin) < jax.nn.sigmoid(field), 1, -1)
    return spins.at[i // SIDE, i % SIDE].set(new)


def exact_ising(beta):
    """Evidence and mean number of agreeing bonds, by enumeration."""
    states = np.array(list(itertools.product([-1, 1], repeat=SIDE * SIDE))).reshape(-1, SIDE, SIDE)
    total = (states[:, 1:] * states[:, :-1]).sum((1, 2)) + (states[..., 1:] * states[..., :-1]).sum(
        (1, 2)
    )
    weights = np.exp(beta * total)
    return weights.mean(), (weights * total).sum() / weights.sum()


def numpyros(log_density, step):
    """NumPyro's NUTS, which adapts nothing itself."""
    potential = lambda z: -log_density(z)
    fixed = {"adapt_step_size": False, "adapt_mass_matrix": False, "max_tree_depth": 3}
    return numpyro.infer.NUTS(potential_fn=potential, step_size=step, **fixed)


NUMPYRO = Algorithm(build=numpyros, acceptance=0.8)
