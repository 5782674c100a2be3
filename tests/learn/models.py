"""Models with exact answers for learned proposals and twists, as `Kernels`."""

import itertools
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

from smcgen.learn import Kernels, Quadratic, Table


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Linear(Kernels):
    """`x_0 ~ N(0, I)`, `x_t ~ N(A x_{t-1}, Q)`, `y_t ~ N(B x_t, r^2 I)` in d dimensions."""

    a: Any  # (d, d)
    q: Any  # (d, d)
    b: Any  # (k, d)
    r: Any
    y: Any  # (T + 1, k)

    @property
    def num_steps(self):
        return self.y.shape[0] - 1

    def initial(self):
        return dist.MultivariateNormal(jnp.zeros(len(self.a)), jnp.eye(len(self.a)))

    def transition(self, t, x_prev):
        return dist.MultivariateNormal(x_prev @ self.a.T, self.q)

    def log_g(self, t, x_prev, x):
        return dist.Normal(x @ self.b.T, self.r).to_event(1).log_prob(self.y[t])

    def kalman(self):
        """log Z, in double precision."""
        a, q, b, r, ys = (
            np.asarray(v, np.float64) for v in (self.a, self.q, self.b, self.r, self.y)
        )
        mean, cov, log_z = np.zeros(len(a)), np.eye(len(a)), 0.0
        for t, y in enumerate(ys):
            if t:
                mean, cov = a @ mean, a @ cov @ a.T + q
            s, e = b @ cov @ b.T + r**2 * np.eye(len(b)), y - b @ mean
            log_z -= 0.5 * (e @ np.linalg.solve(s, e) + np.linalg.slogdet(2 * np.pi * s)[1])
            gain = cov @ b.T @ np.linalg.inv(s)
            mean, cov = mean + gain @ e, cov - gain @ b @ cov
        return log_z

    def exact_twist(self):
        """`psi_t = p(y_{t:T} | x_t)`, by the backward information filter."""
        a, q, b, r, ys = (
            np.asarray(v, np.float64) for v in (self.a, self.q, self.b, self.r, self.y)
        )
        d, rows = len(a), []
        p, h, c = np.zeros((d, d)), np.zeros(d), 0.0
        for t in range(len(ys) - 1, -1, -1):
            if t < len(ys) - 1:  # integrate x_{t+1} out of exp(c + h'x - x'Px/2)
                s = np.linalg.inv(np.linalg.inv(q) + p)
                c += 0.5 * h @ s @ h - 0.5 * np.linalg.slogdet(np.eye(d) + q @ p)[1]
                back = a.T @ np.linalg.inv(q) @ s
                p, h = a.T @ np.linalg.inv(q) @ a - back @ np.linalg.inv(q) @ a, back @ h
            p, h = p + b.T @ b / r**2, h + b.T @ ys[t] / r**2
            c -= 0.5 * ys[t] @ ys[t] / r**2 + 0.5 * len(b) * np.log(2 * np.pi * r**2)
            rows.append((p, h, c))
        p, h, c = (jnp.asarray(np.array(v[::-1]), jnp.float32) for v in zip(*rows, strict=True))
        return Quadratic(p, h, c)

    def own_twist(self):
        """`psi_t = G_t`: with it `Twisted` is the fully adapted filter."""
        times = len(self.y)
        p = jnp.broadcast_to(self.b.T @ self.b / self.r**2, (times, *self.a.shape))
        c = -0.5 * jnp.sum(self.y**2, -1) / self.r**2
        c -= len(self.b) * (jnp.log(self.r) + 0.5 * np.log(2 * np.pi))
        return Quadratic(p, self.y @ self.b / self.r**2, c)


def linear(d=1, steps=4, k=None, r=0.6, seed=0):
    rng = np.random.default_rng(seed)
    k = k or d
    a = 0.9 * np.linalg.qr(rng.normal(size=(d, d)))[0]
    root = 0.5 * np.eye(d) + 0.2 * rng.normal(size=(d, d))
    b, y = rng.normal(size=(k, d)), rng.normal(0, 1.5, (steps + 1, k))
    as32 = lambda x: jnp.asarray(x, jnp.float32)
    return Linear(as32(a), as32(root @ root.T + 0.1 * np.eye(d)), as32(b), as32(r), as32(y))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Hidden(Kernels):
    """A hidden Markov chain: `x_0 ~ start`, `x_t ~ move[x_{t-1}]`, `log G_t = log_g[t, x_{t-1}, x_t]`."""

    start: Any  # (k,)
    move: Any  # (k, k)
    table: Any  # (T + 1, k, k)

    @property
    def num_steps(self):
        return self.table.shape[0] - 1

    def initial(self):
        return dist.Categorical(probs=self.start)

    def transition(self, t, x_prev):
        return dist.Categorical(probs=self.move[x_prev])

    def log_g(self, t, x_prev, x):
        return self.table[t][0 if x_prev is None else x_prev, x]

    def exact(self):
        """Z, by enumeration."""
        start, move = np.asarray(self.start, np.float64), np.asarray(self.move, np.float64)
        g, total = np.exp(np.asarray(self.table, np.float64)), 0.0
        for path in itertools.product(range(len(start)), repeat=len(g)):
            weight = start[path[0]] * g[0, 0, path[0]]
            for t, (i, j) in enumerate(itertools.pairwise(path), 1):
                weight *= move[i, j] * g[t, i, j]
            total += weight
        return total

    def exact_twist(self):
        """`psi_t = G_t M_{t+1}(psi_{t+1})`, where G depends on x_t alone."""
        move, g = np.asarray(self.move, np.float64), np.asarray(self.table, np.float64)[:, 0]
        values = [np.exp(g[-1])]
        for row in g[-2::-1]:
            values.append(np.exp(row) * (move @ values[-1]))
        return Table(jnp.asarray(np.log(values[::-1]), jnp.float32))


def hidden(k=3, steps=4, seed=0, spread=1.5, pairs=False):
    """With `pairs` the potentials depend on the state before too."""
    rng = np.random.default_rng(seed)
    table = rng.normal(0, spread, (steps + 1, k if pairs else 1, k)) + np.zeros((steps + 1, k, k))
    start, move = rng.dirichlet(np.ones(k)), rng.dirichlet(np.ones(k), k)
    return Hidden(*(jnp.asarray(x, jnp.float32) for x in (start, move, table)))
