"""Persistent sampling: its weights by their formula, its estimates by many runs."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen.samplers import Given, PersistentSampler
from tests.samplers import models
from tests.samplers.models import LADDER, LINEAR, SIGMA, X3, Y3, fixed_walk

pytestmark = pytest.mark.slow
RUNS, N = 300, 100


@pytest.fixture(scope="module")
def runs():
    sampler = PersistentSampler(LINEAR, fixed_walk(), Given(jnp.array(LADDER)), 3)
    one = lambda key: smcgen.smc(sampler, key, N, ess_threshold=1.0, keep="summary")
    return jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), RUNS))


def test_weights_by_their_formula(runs):
    """All points against the mixture of all targets, in double precision, from what one run drew."""
    state = jax.tree.map(lambda a: np.asarray(a[0], np.float64), runs.particles)
    log_l, positions = state.points.log_likelihood, np.array([0.0, *LADDER])
    log_z = [0.0]
    for t in range(len(positions)):
        to = LADDER[min(t, len(LADDER) - 1)]
        terms = [positions[s] * log_l[: t + 1] - log_z[s] for s in range(t + 1)]
        mixture = np.mean(np.exp(terms), 0)
        w = np.exp(to * log_l[: t + 1]) / mixture
        log_z.append(np.log(w.mean()))
    increments = np.cumsum(np.asarray(runs.log_evidence_increments[0], np.float64))
    np.testing.assert_allclose(increments, log_z[1:], atol=2e-3)
    np.testing.assert_allclose(state.log_z, log_z[:-1], atol=2e-3)
    ours = np.exp(state.log_w - state.log_w.max())
    np.testing.assert_allclose(ours / ours.sum(), w / w.sum(), rtol=5e-3)
    np.testing.assert_array_equal(state.trace.at, np.float32(positions))


def test_estimates_of_many_runs(runs):
    """Consistent, not unbiased: at n = 100 the bias is below two per cent of Z."""
    log_z, mean, covariance = models.exact_linear(X3, Y3, SIGMA)
    ratio = np.exp(np.asarray(runs.log_evidence, np.float64) - log_z)
    assert abs(ratio.mean() - 1) < 4.9 * ratio.std() / np.sqrt(RUNS) + 0.02
    log_w = np.asarray(runs.particles.log_w, np.float64).reshape(RUNS, -1)
    w = np.exp(log_w - log_w.max(1, keepdims=True))
    w /= w.sum(1, keepdims=True)
    x = np.asarray(runs.particles.points.x, np.float64).reshape(RUNS, -1, 3)
    means = (w[..., None] * x).sum(1)
    error = means.std(0) / np.sqrt(RUNS)
    assert np.all(np.abs(means.mean(0) - mean) < 4.9 * error + 0.02 * np.sqrt(np.diag(covariance)))
    assert (1 / (w**2).sum(1)).mean() > N  # more than the last population is worth
