"""State-space models whose answers are known: by Kalman, by enumeration, by a fine grid."""

import jax.numpy as jnp
import numpyro.distributions as dist

from smcgen.ssm import Inputs, StateSpaceModel


class Linear(StateSpaceModel):
    """`x_0 ~ N(m, P)`, `x_t ~ N(A x_{t-1} + b u_t, Q)`, `y_t ~ N(H x_t, R)`: vectors."""

    mean: jnp.ndarray
    cov: jnp.ndarray
    A: jnp.ndarray
    Q: jnp.ndarray
    H: jnp.ndarray
    R: jnp.ndarray

    def initial(self):
        return dist.MultivariateNormal(self.mean, self.cov)

    def transition(self, t, x):
        return dist.MultivariateNormal(x @ self.A.T, self.Q)

    def observation(self, t, x):
        return dist.MultivariateNormal(x @ self.H.T, self.R)


class Independent(Linear):
    """The same with independent components: Q and R are diagonal."""

    def transition(self, t, x):
        return dist.Normal(x @ self.A.T, jnp.sqrt(jnp.diag(self.Q))).to_event(1)

    def observation(self, t, x):
        return dist.Normal(x @ self.H.T, jnp.sqrt(jnp.diag(self.R))).to_event(1)


class Scalar(StateSpaceModel):
    """`x_0 ~ N(0, 1)`, `x_t ~ N(a x_{t-1} + u_t, q^2)`, `y_t ~ N(x_t, r^2)`."""

    a: float
    q: float
    r: float
    u: Inputs

    def initial(self):
        return dist.Normal(0.0, 1.0)

    def transition(self, t, x):
        return dist.Normal(self.a * x + self.u[t], self.q)

    def observation(self, t, x):
        return dist.Normal(x, self.r)


class Hidden(StateSpaceModel):
    """A hidden Markov chain: `x_0 ~ start`, `x_t ~ P[x_{t-1}]`, `y_t ~ B[x_t]`."""

    start: jnp.ndarray
    P: jnp.ndarray
    B: jnp.ndarray

    def initial(self):
        return dist.Categorical(self.start)

    def transition(self, t, x):
        return dist.Categorical(self.P[x])

    def observation(self, t, x):
        return dist.Categorical(self.B[x])


class Volatility(StateSpaceModel):
    """Stochastic volatility."""

    mu: float = -0.5
    rho: float = 0.9
    sigma: float = 0.6

    def initial(self):
        return dist.Normal(self.mu, self.sigma / jnp.sqrt(1 - self.rho**2))

    def transition(self, t, x):
        return dist.Normal(self.mu + self.rho * (x - self.mu), self.sigma)

    def observation(self, t, x):
        return dist.Normal(0, jnp.exp(x / 2))


class ThetaLogistic(StateSpaceModel):
    """Log-population under density dependence: `x_t = x_{t-1} + a - b exp(c x_{t-1}) + noise`."""

    a: float = 0.15
    b: float = 0.12
    c: float = 0.8
    sigma: float = 0.4
    noise: float = 0.5

    def initial(self):
        return dist.Normal(0.0, 1.0)

    def transition(self, t, x):
        return dist.Normal(x + self.a - self.b * jnp.exp(self.c * x), self.sigma)

    def observation(self, t, x):
        return dist.Normal(x, self.noise)


class Switching(StateSpaceModel):
    """Two variables in the state, the second given the first; two in the observation."""

    P: jnp.ndarray
    rho: jnp.ndarray

    def initial(self):
        return {"regime": dist.Categorical(jnp.array([0.5, 0.5])), "level": dist.Normal(0.0, 1.0)}

    def transition(self, t, x):
        return {
            "regime": dist.Categorical(self.P[x["regime"]]),
            "level": lambda new: dist.Normal(self.rho[new["regime"]] * x["level"], 0.5),
        }

    def observation(self, t, x):
        rate = jnp.exp(0.5 * x["level"])
        return {"level": dist.Normal(x["level"], 0.7), "count": dist.Poisson(rate)}
