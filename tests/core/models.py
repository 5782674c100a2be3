"""Models whose answers are known exactly: finite chains, enumerated, and a linear-Gaussian one."""

import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import smcgen
from smcgen.core.resolve import resolve


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Chain(smcgen.FeynmanKac):
    """`x_0 ~ exp(log_start)`, `x_t ~ exp(log_move[x_{t-1}])`, `log G_t = log_g[t, x_t]`."""

    log_start: Any  # (k,)
    log_move: Any  # (k, k)
    log_g: Any  # (T + 1, k)

    @property
    def num_steps(self):
        return self.log_g.shape[0] - 1

    def init(self, key, n):
        x = jax.random.categorical(key, self.log_start, shape=(n,))
        return x, self.log_g[0][x]

    def step(self, key, t, x):
        x = jax.random.categorical(key, self.log_move[x], axis=-1)
        return x, self.log_g[t][x]

    def exact(self, phi=lambda path: 1.0):
        """`E[prod_t G_t phi(x_{0:T})]`, by enumeration."""
        start, move = (np.exp(np.asarray(a, np.float64)) for a in (self.log_start, self.log_move))
        g = np.exp(np.asarray(self.log_g, np.float64))
        total = 0.0
        for path in itertools.product(range(len(start)), repeat=len(g)):
            p = start[path[0]] * np.prod([move[a, b] for a, b in itertools.pairwise(path)])
            total += p * np.prod(g[np.arange(len(g)), path]) * phi(path)
        return total


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MarkovChain(smcgen.Markov):
    """The same law, its moves and weights apart."""

    log_start: Any
    log_move: Any
    log_g_: Any

    @property
    def num_steps(self):
        return self.log_g_.shape[0] - 1

    def draw_initial(self, key, n):
        return jax.random.categorical(key, self.log_start, shape=(n,))

    def draw(self, key, t, x_prev):
        return jax.random.categorical(key, self.log_move[x_prev], axis=-1)

    def log_initial(self, x):
        return self.log_start[x]

    def log_m(self, t, x_prev, x):
        return self.log_move[x_prev, x]

    def log_g(self, t, x_prev, x):
        return self.log_g_[t][x]

    def exact(self, phi=lambda path: 1.0):
        return Chain(self.log_start, self.log_move, self.log_g_).exact(phi)

    def paths(self):
        """All paths, shape (paths, T + 1), and their probabilities under the target."""
        states = self.log_start.shape[0]
        paths = np.array(list(itertools.product(range(states), repeat=self.num_steps + 1)))
        mass = np.array([self.exact(lambda path, p=tuple(p): float(path == p)) for p in paths])
        return paths, mass / mass.sum()


def markov_chain(seed=0, states=2, steps=3, spread=1.5):
    c = chain(seed, states, steps, spread)
    return MarkovChain(c.log_start, c.log_move, c.log_g)


def chain(seed=0, states=3, steps=3, spread=1.5, impossible=False):
    """A random chain; `impossible` closes most states at one time, so that some runs die."""
    rng = np.random.default_rng(seed)
    start, move = rng.dirichlet(np.ones(states)), rng.dirichlet(np.ones(states), states)
    log_g = rng.normal(0, spread, (steps + 1, states))
    if impossible:
        log_g[1, 0] = log_g[2, 1:] = -np.inf
    return Chain(*(jnp.asarray(a, jnp.float32) for a in (np.log(start), np.log(move), log_g)))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Gaussian(smcgen.FeynmanKac):
    """`x_0 ~ N(0, 1)`, `x_t ~ N(a x_{t-1}, q^2)`, `y_t ~ N(x_t, r^2)`."""

    a: Any
    q: Any
    r: Any
    y: Any  # (T + 1,)

    @property
    def num_steps(self):
        return self.y.shape[0] - 1

    def _log_g(self, t, x):
        return jax.scipy.stats.norm.logpdf(self.y[t], x, self.r)

    def init(self, key, n):
        x = jax.random.normal(key, (n,))
        return x, self._log_g(0, x)

    def step(self, key, t, x):
        x = self.a * x + self.q * jax.random.normal(key, x.shape)
        return x, self._log_g(t, x)

    def kalman(self):
        """log Z and the mean of the last state, by the Kalman filter in double precision."""
        a, q, r = (float(v) for v in (self.a, self.q, self.r))
        mean, var, log_z = 0.0, 1.0, 0.0
        for t, y in enumerate(np.asarray(self.y, np.float64)):
            if t:
                mean, var = a * mean, a * a * var + q * q
            s = var + r * r
            log_z += -0.5 * (np.log(2 * np.pi * s) + (y - mean) ** 2 / s)
            mean, var = mean + var / s * (y - mean), var * r * r / s
        return log_z, mean


# Runs of the same shape share one compiled program: most tests use these models with these options.
Y = (0.5, 1.5, -2.3, 0.4, 1.0)
OPTIONS = {"n_particles": 8, "ess_threshold": 0.8, "keep": "particles"}


def gaussian(a=0.9, q=0.7, r=0.8, y=Y):
    return Gaussian(a, q, r, jnp.asarray(y, jnp.float32))


class Host(smcgen.FeynmanKac):
    """Any model, driven from Python."""

    traceable = False

    def __init__(self, model):
        self.model = model
        self.num_steps, self.num_problems = model.num_steps, model.num_problems
        self._done = resolve(model).done

    def init(self, key, n):
        return self.model.init(key, n)

    def step(self, key, t, state):
        return self.model.step(key, t, state)

    def take(self, state, ancestors):
        return self.model.take(state, ancestors)

    def done(self, state):
        return self._done(state) if self._done else super().done(state)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Problems(smcgen.FeynmanKac):
    """Several chains side by side, as one model with a problem axis."""

    chains: Any  # a `Chain` whose arrays have a leading problem axis

    @property
    def num_problems(self):
        return self.chains.log_g.shape[0]

    @property
    def num_steps(self):
        return self.chains.log_g.shape[1] - 1

    def init(self, key, n):
        x, log_g = jax.vmap(lambda c, k: c.init(k, n))(self.chains, key)
        return {"x": x, "t": jnp.zeros_like(x)}, log_g

    def step(self, key, t, state):
        x, log_g = jax.vmap(lambda c, k, x: c.step(k, t, x))(self.chains, key, state["x"])
        return {"x": x, "t": state["t"] + 1}, log_g


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class EndingProblems(Problems):
    """The same; problem b ends after step `ends[b]`, and stays as it is."""

    ends: Any

    def done(self, state):
        return state["t"][:, 0] >= self.ends

    def step(self, key, t, state):
        new, log_g = super().step(key, t, state)
        over = (t > self.ends)[:, None]
        stay = lambda old, new: jnp.where(over, old, new)
        return jax.tree.map(stay, state, new), jnp.where(over, 0.0, log_g)


def stack(chains):
    return jax.tree.map(lambda *x: jnp.stack(x), *chains)


def three_chains():
    return stack([chain(seed, steps=4, spread=2.0) for seed in range(3)])


def repeat(model, times):
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (times, *jnp.shape(x))), model)
