"""The laws of `smc`: E[Z-hat] = Z and E[Z-hat phi-hat] = Z pi(phi), for any n, scheme and threshold."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from tests.core.models import Host, Problems, chain, gaussian, repeat, stack
from tests.laws import assert_unbiased
from tests.schemes import NAMES, Numbered

CHAINS = [chain(0), chain(1, spread=3.0), chain(2, impossible=True)]
GAUSSIANS = [gaussian(), gaussian(-0.5, 1.2, 0.5, (1.0, -2.0, 0.3, 0.0, 0.5))]
RUNS = 5000
PHI = jnp.array([0.2, -1.0, 3.0])


@partial(jax.jit, static_argnames=("phi", "n", "threshold"))
def estimates(models, keys, scheme, phi, n, threshold):
    """Z-hat, Z-hat phi-hat and the evidence as the sum of increments, shape (models, runs) each."""

    def one(model, key):
        run = smcgen.smc(model, key, n, resampling=Numbered(scheme), ess_threshold=threshold)
        z = jnp.exp(run.log_evidence)
        increments = jnp.exp(run.log_evidence_increments.sum(0))
        return z, z * run.expectation(phi), increments, run.resampled.any()

    return jax.vmap(jax.vmap(one, (None, 0)))(models, keys)


def many(models, phi, n, threshold, scheme="systematic", runs=RUNS):
    """`estimates` as NumPy arrays."""
    keys = jax.random.split(jax.random.key(n), (len(models), runs))
    results = estimates(stack(models), keys, NAMES.index(scheme), phi, n, threshold)
    return [np.asarray(r, np.float64) for r in results]


def phi_of_chain(x):
    return PHI[x]


def phi_of_gaussian(x):
    return x


def check_chains(n, scheme, threshold):
    z_hat, zphi_hat, increments, resampled = many(CHAINS, phi_of_chain, n, threshold, scheme)
    for b, model in enumerate(CHAINS):
        z, zphi = model.exact(), model.exact(lambda path: PHI[path[-1]])
        assert_unbiased(z_hat[b] / z, 1.0, f"Z of chain {b}")
        assert_unbiased(zphi_hat[b] / zphi, 1.0, f"Z phi of chain {b}")
    np.testing.assert_allclose(increments, z_hat, rtol=1e-4)
    assert (z_hat[2] == 0).any(), "no run of the third chain died: the test is weaker than it says"
    assert resampled.any() == (threshold * n > 1)  # ESS is never below 1


@pytest.mark.parametrize("scheme", NAMES)
def test_unbiased_on_enumerated_chains(scheme):
    check_chains(3, scheme, 1.0)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", NAMES)
@pytest.mark.parametrize(("n", "threshold"), [(2, 0.8), (2, 1.0), (10, 0.5), (10, 1.0)])
def test_unbiased_at_any_number_and_threshold(n, scheme, threshold):
    check_chains(n, scheme, threshold)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "threshold"), [(3, 0.0), (2, 0.5)])  # the ESS is never below 1
def test_unbiased_without_resampling(n, threshold):
    check_chains(n, "systematic", threshold)


@pytest.mark.slow
@pytest.mark.parametrize(("n", "threshold"), [(3, 0.7), (10, 1.0)])
def test_unbiased_against_the_kalman_filter(n, threshold):
    z_hat, zphi_hat, _, _ = many(GAUSSIANS, phi_of_gaussian, n, threshold, runs=30 * RUNS // n)
    for b, model in enumerate(GAUSSIANS):
        log_z, mean = model.kalman()
        assert_unbiased(z_hat[b] / np.exp(log_z), 1.0, f"Z of model {b}")
        assert_unbiased(zphi_hat[b] / np.exp(log_z), mean, f"Z phi of model {b}")


@pytest.mark.slow
def test_consistent_with_many_particles():
    model = gaussian()
    log_z, mean = model.kalman()
    run = smcgen.smc(model, 0, 100_000)
    np.testing.assert_allclose(run.log_evidence, log_z, atol=0.02)
    np.testing.assert_allclose(run.expectation(), mean, atol=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["traced", "host"])
def test_unbiased_with_a_problem_axis(driver):
    """Every problem is its own run; adaptive resampling that lost the weights would fail here."""
    model = Problems(repeat(CHAINS[2], RUNS))
    run = smcgen.smc(
        Host(model) if driver == "host" else model, 3, 4, ess_threshold=0.6, on_error="return"
    )
    resampled = np.asarray(run.resampled)
    assert 0.05 < resampled.mean() < 0.95, "the mixture of both cases is what is tested"
    z_hat = np.exp(np.asarray(run.log_evidence, np.float64))
    phi_hat = run.expectation(lambda state: PHI[state["x"]])
    assert_unbiased(z_hat / CHAINS[2].exact(), 1.0, "Z")
    zphi = CHAINS[2].exact(lambda path: PHI[path[-1]])
    assert_unbiased(z_hat * phi_hat / zphi, 1.0, "Z phi")


def test_the_evidence_is_exact_without_randomness_in_the_weights():
    """Constant potentials: Z-hat = Z whatever is drawn, over a thousand steps in float32."""
    log_g = np.full((1001, 1), -7.123)
    model = chain(states=1)
    model = type(model)(model.log_start, model.log_move, jnp.asarray(log_g, jnp.float32))
    run = smcgen.smc(model, 0, 3, ess_threshold=1.0, keep="summary")
    np.testing.assert_allclose(run.log_evidence, 1001 * float(np.float32(-7.123)), rtol=3e-7)


@pytest.mark.slow
def test_gradient_of_the_evidence():
    """Without resampling E[grad Z-hat] = grad Z: the estimate is differentiated as it is."""
    model = gaussian()

    def z_hat(a, key):
        run = smcgen.smc(type(model)(a, model.q, model.r, model.y), key, 8, ess_threshold=0)
        return jnp.exp(run.log_evidence)

    keys = jax.random.split(jax.random.key(1), 20_000)
    value, slope = jax.jit(jax.vmap(jax.value_and_grad(z_hat), (None, 0)))(0.9, keys)
    z = lambda a: np.exp(gaussian(a).kalman()[0])
    exact = (z(0.9 + 1e-4) - z(0.9 - 1e-4)) / 2e-4
    assert_unbiased(value / z(0.9), 1.0, "Z")
    assert_unbiased(slope / exact, 1.0, "grad Z")
    assert np.std(slope) > 0


@pytest.mark.slow
def test_gradient_is_finite_when_every_particle_dies():
    """Z-hat = 0 is a constant near such a run: its gradient is zero, not NaN."""

    class Dead(smcgen.FeynmanKac):
        num_steps = 2

        def __init__(self, a):
            self.a = a

        def init(self, key, n):
            x = self.a * jax.random.normal(key, (n,))
            return x, -(x**2)

        def step(self, key, t, x):
            return x, jnp.where(t == 1, -jnp.inf, -self.a * x**2)

    z_hat = lambda a: jnp.exp(smcgen.smc(Dead(a), 0, 4, ess_threshold=0).log_evidence)
    assert jax.jit(jax.value_and_grad(z_hat))(0.5) == (0.0, 0.0)


def by_run(runs):
    """Mapped runs as problems of one: their axis after that of time."""
    over_time = ("resampled", "same_parent", "ess")
    moved = {name: np.moveaxis(np.asarray(getattr(runs, name)), 0, 1) for name in over_time}
    return runs.replace(**moved)


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.5, 1.0])
@pytest.mark.parametrize("scheme", ["systematic", "killing"])
def test_stderr_squared_is_the_variance_under_the_other_schemes_too(scheme, threshold):
    """Nearly; taking off `n / (n - 1)` for each resampling left half of it, or less than nothing."""
    y = jnp.array([0.5, 2.0, -1.0, 0.3, 1.0, 3.0, 2.0, 1.0, 0.0, -1.0])

    class Walk(smcgen.FeynmanKac):
        num_steps = len(y) - 1

        def init(self, key, n):
            return self.moved(0, jax.random.normal(key, (n,)))

        def step(self, key, t, x):
            return self.moved(t, 0.9 * x + jax.random.normal(key, x.shape))

        def moved(self, t, x):
            return x, jax.scipy.stats.norm.logpdf(y[t], x, 2.0)

    one = lambda key: smcgen.smc(Walk(), key, 50, resampling=scheme, ess_threshold=threshold)
    run = by_run(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 10_000)))
    z_hat = np.exp(np.asarray(run.log_evidence, np.float64))
    z_hat /= z_hat.mean()
    found, true = np.mean(z_hat**2 * run._relative_variance()), z_hat.var()
    assert (0.9 if threshold < 1 else 0.6) < found / true < 1.1


@pytest.mark.slow
def test_stderr_squared_is_unbiased_for_the_relative_variance():
    """E[Z-hat^2 V] = Var(Z-hat) under multinomial resampling at every step (Lee and Whiteley 2018)."""
    models = [chain(0, spread=0.7), chain(5, spread=0.7)]

    @partial(jax.vmap, in_axes=(0, 0))
    @partial(jax.vmap, in_axes=(None, 0))
    def one(model, key):
        return smcgen.smc(model, key, 24, resampling="multinomial", ess_threshold=1.0)

    runs = jax.jit(one)(stack(models), jax.random.split(jax.random.key(0), (2, 4000)))
    for b, model in enumerate(models):
        run = jax.tree.map(lambda x, b=b: x[b], runs)
        run = by_run(run)
        v = run._relative_variance()
        shown = run.log_evidence_stderr  # NaN where the genealogy says nothing
        np.testing.assert_allclose(shown[~np.isnan(shown)] ** 2, v[~np.isnan(shown)])
        np.testing.assert_array_equal(np.isnan(shown), (v < 0) | (run.unique_founders == 1))
        z_hat, z = np.exp(np.asarray(run.log_evidence, np.float64)), model.exact()
        relative = (z_hat / z) ** 2 * v - (z_hat / z - 1) ** 2
        assert_unbiased(relative, 0.0, f"chain {b}")
        # not vacuous: half or double the variance would be seen
        for factor in (0.5, 2.0):
            off = factor * (z_hat / z) ** 2 * v - (z_hat / z - 1) ** 2
            assert abs(off.mean()) > 5 * off.std() / np.sqrt(len(off))
