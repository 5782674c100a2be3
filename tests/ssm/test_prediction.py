"""Forecasts and replicates against the exact predictive law."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import smcgen
from smcgen.errors import InvalidArgument
from smcgen.ssm import Bootstrap, forecast, posterior_predictive
from tests.laws import assert_unbiased
from tests.ssm import exact
from tests.ssm.models import Scalar, Volatility
from tests.ssm.test_laws import INPUTS, SCALAR, SEEN

HORIZON = 3


def predictive(model, y):
    """Mean and deviation of `y_{T+1:T+H}`, and log Z."""
    log_z, means, covs = exact.scalar(model, y, HORIZON)
    return means[-HORIZON:, 0], np.sqrt(covs[-HORIZON:, 0, 0] + model.r**2), log_z


@pytest.mark.slow
def test_forecasts_are_unbiased():
    """E[Z-hat * forecast of f(y_{T+h})] = Z * E[f(y_{T+h}) | y]: mean, a tail, and the predictive density."""
    later = jnp.array([0.5, np.nan, -1.0])

    def one(filter, key):
        run = smcgen.smc(filter, key, 8, ess_threshold=0.7)
        ahead = forecast(filter, run, jax.random.fold_in(key, 1), HORIZON)
        tail = (ahead.observations > 0.5) * run.weights
        z = jnp.exp(run.log_evidence)
        return z * ahead.mean(), z * tail.sum(-1), z * jnp.exp(ahead.log_scores(later))

    keys = jax.random.split(jax.random.key(0), 4000)
    found = jax.jit(jax.vmap(one, (None, 0)))(Bootstrap(SCALAR, SEEN), keys)
    mean, deviation, log_z = predictive(SCALAR, SEEN)
    law = stats.norm(mean, deviation)
    density = np.where(np.isnan(later), 1.0, law.pdf(later))
    for name, values, expected in zip(
        ("mean", "tail", "density"), found, (mean, law.sf(0.5), density), strict=True
    ):
        for h in range(HORIZON):
            scaled = np.asarray(values, np.float64)[:, h] / np.exp(log_z)
            assert_unbiased(scaled, expected[h], f"{name} {h + 1} ahead")


@pytest.mark.slow
def test_quantiles_and_several_series():
    y = np.stack([SEEN, -SEEN])
    filter = Bootstrap(SCALAR, y)
    run = smcgen.smc(filter, 0, 100_000)
    ahead = forecast(filter, run, 1, HORIZON)
    assert ahead.observations.shape == (HORIZON, 2, 100_000)
    for b in range(2):
        mean, deviation, _ = predictive(SCALAR, y[b])
        for q in (0.05, 0.5, 0.9):
            expected = stats.norm(mean, deviation).ppf(q)
            np.testing.assert_allclose(ahead.quantile(q)[:, b], expected, atol=0.04)
        np.testing.assert_allclose(ahead.mean()[:, b], mean, atol=0.03)
        scores = ahead.log_scores(np.zeros((2, HORIZON)))[:, b]
        np.testing.assert_allclose(scores, stats.norm(mean, deviation).logpdf(0), atol=0.02)


@pytest.mark.slow
def test_replicates_follow_the_paths():
    paths = jnp.broadcast_to(jnp.array([0.0, 5.0, -5.0])[:, None], (3, 20_000))
    seen = np.asarray(posterior_predictive(SCALAR, paths, 0))
    for t, x in enumerate([0.0, 5.0, -5.0]):
        assert stats.kstest(seen[t], stats.norm(x, SCALAR.r).cdf).pvalue > 1e-6
    assert abs(np.corrcoef(seen)[0, 1]) < 0.05


@pytest.mark.slow
def test_simulations_follow_the_model():
    """Means and covariances of `y_{0:T}` by a Kalman filter that has seen nothing yet."""
    states, seen = SCALAR.simulate(0, 4, 20_000)
    _, means, covs = exact.scalar(SCALAR, np.full(5, np.nan))
    for t in range(5):
        law = stats.norm(means[t, 0], np.sqrt(covs[t, 0, 0] + SCALAR.r**2))
        assert stats.kstest(np.asarray(seen)[:, t], law.cdf).pvalue > 1e-6
    lag = np.cov(np.asarray(states)[:, 1], np.asarray(seen)[:, 2])[0, 1]
    np.testing.assert_allclose(lag, SCALAR.a * covs[1, 0, 0], atol=0.05)
    one = SCALAR.simulate(0, 4)
    assert one.observations.shape == one.states.shape == (5,)


@pytest.mark.usefixtures("unchecked")
def test_what_cannot_be_forecast():
    with pytest.raises(InvalidArgument, match="horizon=0"):
        forecast(Volatility(), None, 0, 0)


@pytest.mark.slow
def test_inputs_must_reach_as_far_as_the_forecast():
    run = smcgen.smc(Bootstrap(SCALAR, SEEN), 0, 100)
    assert len(INPUTS) == 9
    forecast(SCALAR, run, 0, 4)
    with pytest.raises(
        InvalidArgument, match=r"u='9 times'.*at least 10 times to forecast 5 steps"
    ):
        forecast(SCALAR, run, 0, 5)
    free = Scalar(0.9, 0.7, 0.8, jnp.zeros(5))  # a plain array cannot say so
    assert forecast(free, run, 0, 5).states.shape == (5, 100)
