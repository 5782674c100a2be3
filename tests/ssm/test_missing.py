"""Missing observations are integrated out exactly, and parts of them too."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

from smcgen.ssm.missing import log_density_seen, marginalises

NAN = float("nan")
COV = np.array([[1.0, 0.3, 0.1], [0.3, 0.8, -0.2], [0.1, -0.2, 0.5]])
MEANS = np.array([[0.0, 1.0, -1.0], [0.5, 0.0, 0.2]])


def seen(laws, ys, missing="entries"):
    """By name: log-densities of each observation, shape (observations, particles). One program for all laws."""

    def all_laws():
        of = lambda law: jax.vmap(lambda y: log_density_seen(law(), y, 2, "law", missing))
        return {name: of(law)(jnp.asarray(ys[name], jnp.float32)) for name, law in laws.items()}

    return {name: np.asarray(x, np.float64) for name, x in jax.jit(all_laws)().items()}


def marginal(mean, cov, y):
    k = ~np.isnan(y)
    return stats.multivariate_normal(mean[k], cov[np.ix_(k, k)]).logpdf(y[k]) if k.any() else 0.0


GAUSSIANS = {
    "covariance": lambda: dist.MultivariateNormal(jnp.asarray(MEANS), jnp.asarray(COV)),
    "one covariance for each": lambda: dist.MultivariateNormal(
        jnp.asarray(MEANS), jnp.asarray(np.stack([COV, 2 * COV]))
    ),
    "low rank": lambda: dist.LowRankMultivariateNormal(
        jnp.asarray(MEANS), jnp.ones((3, 1)), jnp.array([0.5, 1.0, 2.0])
    ),
    "independent": lambda: dist.Normal(jnp.asarray(MEANS), jnp.array([1.0, 0.5, 2.0])).to_event(1),
}
COVARIANCES = {
    "covariance": [COV, COV],
    "one covariance for each": [COV, 2 * COV],
    "low rank": [np.ones((3, 3)) + np.diag([0.5, 1.0, 2.0])] * 2,
    "independent": [np.diag([1.0, 0.25, 4.0])] * 2,
}


@pytest.mark.slow
def test_gaussian_vectors_seen_in_part():
    ys = np.array([[0.3, NAN, 1.0], [NAN, NAN, -0.5], [NAN] * 3, [0.1, 0.2, 0.3]])
    found = seen(GAUSSIANS, dict.fromkeys(GAUSSIANS, ys))
    for name, covs in COVARIANCES.items():
        exact = [[marginal(m, c, y) for m, c in zip(MEANS, covs, strict=True)] for y in ys]
        np.testing.assert_allclose(found[name], exact, rtol=2e-5, atol=2e-6, err_msg=name)
        assert marginalises(GAUSSIANS[name]())


UNIVARIATE = {
    "gamma": lambda: dist.Gamma(jnp.array([2.0, 3.0]), 1.0),
    "poisson": lambda: dist.Poisson(jnp.array([2.0, 3.0])),
    "categorical": lambda: dist.Categorical(jnp.array([[0.2, 0.8], [0.5, 0.5]])),
    "truncated": lambda: dist.TruncatedNormal(jnp.array([0.0, 1.0]), 1.0, low=2.0, high=5.0),
}
VALUES = {"gamma": 1.5, "poisson": 2.0, "categorical": 1.0, "truncated": 3.0}
EXACT = {
    "gamma": stats.gamma.logpdf(1.5, [2, 3]),
    "poisson": stats.poisson.logpmf(2, [2, 3]),
    "categorical": np.log([0.8, 0.5]),
    "truncated": stats.truncnorm.logpdf(3.0, [2, 1], [5, 4], [0, 1]),
}


@pytest.mark.parametrize("missing", ["rows", "entries"])
def test_one_variable(missing):
    found = seen(UNIVARIATE, {name: [value, NAN] for name, value in VALUES.items()}, missing)
    for name, (value, gone) in found.items():
        np.testing.assert_allclose(value, EXACT[name], rtol=1e-4, err_msg=name)
        np.testing.assert_array_equal(gone, [0.0, 0.0])


def test_gradients_are_finite_where_nothing_was_seen():
    def of_all(scale, loc):
        log_density = lambda law, y: log_density_seen(law, y, 2, "law", "entries").sum()
        vector = dist.MultivariateNormal(loc, jnp.asarray(COV))
        y = jnp.array([0.1, NAN, 1.0])
        return log_density(dist.Gamma(jnp.full(2, 2.0), scale), jnp.float32(NAN)) + log_density(
            vector, y
        )

    scale, loc = jax.jit(jax.grad(of_all, (0, 1)))(1.5, jnp.asarray(MEANS, jnp.float32))
    assert scale == 0
    assert np.isfinite(loc).all()
    assert (np.asarray(loc)[:, 1] == 0).all()
    assert (np.asarray(loc)[:, 0] != 0).all()


def test_a_vector_without_known_marginals():
    law = lambda: dist.Dirichlet(jnp.ones((2, 3)))
    assert not marginalises(law())
    found = seen({"d": law}, {"d": [[NAN] * 3, [0.2, NAN, 0.5]]}, "rows")["d"]
    np.testing.assert_array_equal(found[0], [0.0, 0.0])
    assert np.isnan(found[1]).all()
