"""A linear observation with Gaussian noise is recognised, and conditioned on as Kalman's filter does."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from smcgen.ssm import LocallyOptimal, StateSpaceModel, linear
from tests.laws import assert_unbiased
from tests.ssm import exact

D, K, N = 3, 2, 5
RNG = np.random.default_rng(0)
A, H, ROOT = (jnp.asarray(RNG.normal(size=s), jnp.float32) for s in ((D, D), (K, D), (D, D)))
X = jnp.asarray(RNG.normal(size=(N, D)), jnp.float32)
Q = ROOT @ ROOT.T + 0.1 * jnp.eye(D)
R = jnp.array([[0.5, 0.2], [0.2, 0.4]])


class Vectors(StateSpaceModel):
    """The covariance of the transition is the same for all particles, or their own."""

    own: bool = False

    def initial(self):
        return dist.MultivariateNormal(jnp.zeros(D), Q)

    def transition(self, t, x):
        scale = 1 + 0.1 * jnp.abs(x[:, :1, None]) if self.own else 1.0
        return dist.MultivariateNormal(x @ A.T, Q * scale)

    def observation(self, t, x):
        return dist.MultivariateNormal(1.0 + x @ H.T, R)


class Curved(Vectors):
    """`sin` is not linear."""

    def observation(self, t, x):
        return dist.MultivariateNormal(jnp.sin(x @ H.T), R)


class Loud(Vectors):
    """The noise grows with the state."""

    def observation(self, t, x):
        return dist.Normal(x @ H.T, jnp.exp(x[:, :K])).to_event(1)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("y", [[0.3, -2.0], [np.nan, 1.5], [np.nan, np.nan]], ids=str)
def test_the_posterior_is_kalmans(own, y, monkeypatch):
    monkeypatch.delattr("smcgen.ssm.laplace.posterior")
    model, y = Vectors(own), jnp.asarray(y, jnp.float32)
    law = LocallyOptimal()(model, 1, X, y)
    log_p = LocallyOptimal().log_predictive(model, 0, X, y)
    scales = np.broadcast_to(law.scale_tril, (N, D, D))
    for i in range(N):
        scale = 1 + 0.1 * abs(float(X[i, 0])) if own else 1.0
        moved = np.asarray(X[i : i + 1], np.float64) @ np.asarray(A, np.float64).T
        (mean,), covariance, (log_one,) = exact.conditioned(moved, Q * scale, H, R, y - 1.0)
        np.testing.assert_allclose(law.loc[i], mean, rtol=2e-4, atol=2e-4)
        np.testing.assert_allclose(scales[i] @ scales[i].T, covariance, rtol=2e-4, atol=2e-4)
        np.testing.assert_allclose(log_p[i], log_one, rtol=2e-4, atol=2e-4)
        log_q = dist.MultivariateNormal(mean, covariance).log_prob(X[i])
        np.testing.assert_allclose(law.log_prob(X)[i], log_q, rtol=1e-3, atol=1e-3)


def test_draws_have_the_law_they_say():
    law = LocallyOptimal()(Vectors(), 1, X, jnp.array([0.3, -2.0]))
    draws = np.asarray(law.sample(jax.random.key(0), (4000,)), np.float64)
    centred = draws - np.asarray(law.loc)
    scale = np.asarray(law.scale_tril, np.float64).reshape(D, D)
    covariance = scale @ scale.T
    for i in range(D):
        assert_unbiased(centred[:, 0, i], 0.0)
        for j in range(i + 1):
            assert_unbiased(centred[:, 1, i] * centred[:, 1, j], covariance[i, j])


@pytest.mark.parametrize("model", [Curved(), Loud()], ids=["mean", "noise"])
def test_what_is_not_linear_is_not_taken_for_it(model):
    observe = lambda x: model.observation(1, x)
    prior = model.transition(1, X)
    assert linear.posterior(prior, None, observe, jnp.zeros(K)) is None
    assert linear.posterior(prior, None, lambda x: {"y": observe(x)}, jnp.zeros(K)) is None


def test_what_is_shared_is_seen_in_the_program():
    x = jnp.ones((1, D))
    assert linear.shared(lambda x: x * 0 + 1, x) is None
    np.testing.assert_array_equal(linear.shared(lambda x: jnp.ones(x.shape), x), np.ones((1, D)))
    np.testing.assert_array_equal(linear.shared(jax.jacfwd(lambda x: 2 * x[0, 0] + 3), x)[0, 0], 2)
    assert linear.shared(jax.jacfwd(lambda x: x[0, 0] * x[0, 1]), x) is None
    inner = jax.jit(lambda x: x @ H.T)
    assert linear.shared(jax.jacfwd(inner), x) is not None
