"""Score, information and maximum of the likelihood against the Kalman filter's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen.errors import InvalidArgument, SmcgenError
from smcgen.inference import information, maximum_likelihood, score
from tests.inference.models import GRID, LIKELIHOOD, build, derivatives, log_likelihood
from tests.laws import assert_unbiased

A = 0.3


@pytest.mark.slow
@pytest.mark.parametrize("draws", [None, 2])
def test_score_is_unbiased_once_weighted(draws):
    """E[Z-hat (score-hat - score)] = 0 at eight particles; the evidence is that of the same run."""
    exact = derivatives(A)[0]

    def one(key):
        run_key, _ = jax.random.split(key)  # as `score` splits it
        log_z = smcgen.smc(build({"a": A}), run_key, 8, ess_threshold=1.0).log_evidence
        return log_z, score(build, {"a": A}, key, 8, draws=draws)["a"]

    log_z, found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 4000))
    z = np.exp(np.asarray(log_z, np.float64) - log_likelihood(A))
    assert_unbiased(z, 1.0)
    assert_unbiased(z * (np.asarray(found, np.float64) - exact), 0.0)


@pytest.mark.slow
def test_derivatives_of_the_estimate_are_unbiased():
    """E of the first and second derivative of Z-hat are those of Z."""
    first, second = derivatives(A)
    one = lambda key: information(build, {"a": jnp.float32(A)}, key, 8)
    found = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), 4000))
    z = np.exp(np.asarray(found.log_likelihood, np.float64) - log_likelihood(A))
    s = np.asarray(found.score["a"], np.float64)
    h = -np.asarray(found.observed, np.float64)[:, 0, 0]
    assert_unbiased(z * s, first)
    assert_unbiased(z * (h + s * s), second + first**2)


@pytest.mark.slow
def test_maximum_likelihood():
    best = GRID[LIKELIHOOD.argmax()]
    _, curvature = derivatives(best)
    fits = [maximum_likelihood(build, {"a": 0.0}, k, 200, 80) for k in range(6)]
    found = np.array([float(fit.theta["a"]) for fit in fits])
    # within a tenth of what the data can tell
    assert abs(found.mean() - best) < 0.1 / np.sqrt(-curvature)
    assert fits[0].log_likelihood.shape == (80,)
    assert fits[0].trace["a"].shape == (80,)


def test_bad_input():
    with pytest.raises(InvalidArgument, match="theta"):
        maximum_likelihood(build, {"a": 1}, 0)
    with pytest.raises(SmcgenError, match="iteration 0"):
        maximum_likelihood(build, {"a": float("nan")}, 0, 8, 3)
