"""E[Z-hat] = Z and E[Z-hat phi-hat] = Z pi(phi) for ladders and kernels that are fixed, at any n."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial

import smcgen
from smcgen.samplers import Custom, DataTempering, Given, Point, SMCSampler
from tests.laws import assert_unbiased
from tests.samplers import models
from tests.samplers.models import LADDER, LINEAR, SIGMA, X3, Y3, fixed_walk

pytestmark = pytest.mark.slow


def many(sampler, n, runs, phi, threshold=1.0, seed=0):
    """Z-hat, Z-hat phi-hat by run; phi of points, leading axes (n, length)."""

    def one(key):
        run = smcgen.smc(sampler, key, n, ess_threshold=threshold, keep="summary")
        z = jnp.exp(run.log_evidence)
        return z, z * run.expectation(lambda state: phi(state.points).mean(1)), run

    keys = jax.random.split(jax.random.key(seed), runs)
    return jax.jit(jax.vmap(one))(keys)


@pytest.mark.parametrize("length", [1, 6])
def test_standard_and_waste_free_on_linear_regression(length):
    """Also with adaptive resampling, and for chains: the mean of a chain's ratios is what is unbiased."""
    sampler = SMCSampler(LINEAR, fixed_walk(), Given(jnp.array(LADDER)), 2, length)
    phi = lambda points: points.x[..., 0]
    z_hat, zphi_hat, run = many(sampler, 6, 6000, phi, 1.0 if length > 1 else 0.7)
    log_z, mean, _ = models.exact_linear(X3, Y3, SIGMA)
    assert_unbiased(z_hat / np.exp(log_z), 1.0, "Z")
    assert_unbiased(zphi_hat / np.exp(log_z), mean[0], "Z phi")
    resampled = np.asarray(run.resampled)
    assert resampled.all() if length > 1 else 0.05 < resampled.mean() < 0.95


def test_logistic_regression():
    """Against a fine grid."""
    hit = Y3 > 0
    assert 0 < hit.sum() < len(hit)
    sampler = SMCSampler(
        models.logistic(2 * X3[:, :2], hit), fixed_walk(2, 0.5), Given(jnp.array(LADDER)), 2
    )
    z_hat, zphi_hat, _ = many(sampler, 6, 6000, lambda points: points.x[..., 0])
    z, mean = models.exact_logistic(2 * X3[:, :2], hit)
    assert_unbiased(z_hat / z, 1.0, "Z")
    assert_unbiased(zphi_hat / z, mean[0], "Z phi")


def test_ising_with_a_kernel_of_ones_own():
    beta = 0.7
    kernel = Custom(Partial(models.gibbs, jnp.float32(beta)))
    sampler = SMCSampler(models.ising(beta), kernel, Given(jnp.array([0.3, 0.6, 1.0])), 4)
    z_hat, zphi_hat, run = many(sampler, 8, 6000, lambda p: jax.vmap(jax.vmap(models.bonds))(p.x))
    z, agreement = models.exact_ising(beta)
    assert_unbiased(z_hat / z, 1.0, "Z")
    assert_unbiased(zphi_hat / z, agreement, "Z phi")
    assert np.asarray(run.particles.points.x).dtype == np.int32


class Estimated(DataTempering):
    """Each batch's likelihood times log-normal noise of mean 1, which a point keeps until it is evaluated anew."""

    differentiable = False

    def evaluate(self, key, x, at):
        exact = super().evaluate(key, x, at)
        noise = self._noise(jax.random.split(key, self.end))
        seen = jnp.sum(jnp.where(jnp.arange(self.end) < at, noise, 0.0))
        return exact._replace(log_likelihood=exact.log_likelihood + seen, estimate=seen)

    def advance(self, key, point, at, to):
        new, ratio = super().advance(key, point, at, to)
        noise = jnp.where(to > at, self._noise(key[None])[0], 0.0)
        log_likelihood = new.log_likelihood + noise
        return Point(new.x, new.log_prior, log_likelihood, point.estimate + noise), ratio + noise

    def _noise(self, keys):
        sigma = self.batches["noise"][0]
        return jax.vmap(lambda key: sigma * jax.random.normal(key) - sigma**2 / 2)(keys)


jax.tree_util.register_dataclass(Estimated, ["draw", "log_prior", "log_likelihood", "batches"], [])


def log_batch(x, batch):
    return models.log_linear(batch, x)


@partial(jax.jit, static_argnames=("n", "threshold"))
def ibis(noise, keys, n, threshold):
    batches = {
        "X": jnp.asarray(X3[:4, None], jnp.float32),
        "y": jnp.asarray(Y3[:4, None], jnp.float32),
        "sigma": jnp.full(4, SIGMA),
        "noise": jnp.full(4, noise),
    }
    draw = Partial(models.draw_normal, jnp.zeros(3))
    path = Estimated(draw, models.log_normal, log_batch, batches)
    sampler = SMCSampler(path, fixed_walk(), Given(jnp.arange(1, 5)), 2, only_resampled=True)
    return jax.vmap(
        lambda key: smcgen.smc(sampler, key, n, ess_threshold=threshold, keep="summary")
    )(keys)


@pytest.mark.parametrize("noise", [0.0, 0.7])
def test_data_tempering_has_sequential_evidences_with_estimated_densities_too(noise):
    """IBIS: the evidence after each batch; pseudo-marginal moves where the likelihood is estimated."""
    run = ibis(jnp.float32(noise), jax.random.split(jax.random.key(1), 8000), n=6, threshold=0.6)
    estimates = np.exp(np.cumsum(np.asarray(run.log_evidence_increments, np.float64), axis=1))
    for seen in range(1, 5):
        log_z, mean, _ = models.exact_linear(X3[:seen], Y3[:seen], SIGMA)
        assert_unbiased(estimates[:, seen - 1] / np.exp(log_z), 1.0, f"Z after {seen}")
    phi = (np.exp(run.log_weights) * run.particles.points.x[:, :, 0, 0]).sum(1)
    assert_unbiased(np.exp(run.log_evidence) * phi / np.exp(log_z), mean[0], "Z phi")
    acceptance = np.asarray(run.particles.trace.acceptance)[:, 1:]
    moved = np.isfinite(acceptance)
    np.testing.assert_array_equal(moved, run.resampled)  # and only then
    assert 0.05 < moved.mean() < 0.95
