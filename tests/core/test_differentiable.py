"""Differentiable resampling: derivatives are right, and transport is what it says."""

from dataclasses import replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen.core.resampling import SCHEMES, StopGradient, Transport, conditional
from smcgen.errors import InvalidArgument, ModelError
from smcgen.resampling import Optimal
from tests.core.models import Host, chain, gaussian
from tests.laws import LIMIT, assert_unbiased, z_score

MODEL = gaussian()


def at(name, value):
    """The model with another parameter."""
    return replace(MODEL, **{name: value})


@cache
def exact(name):
    """Z, and its derivative in a parameter, by the Kalman filter."""
    value, h = float(getattr(MODEL, name)), 1e-4
    z = [np.exp(gaussian(**{name: value + d}).kalman()[0]) for d in (-h, 0, h)]
    return z[1], (z[2] - z[0]) / (2 * h)


def slopes(scheme, n, threshold, runs=8000):
    """Z-hat and its derivative in r, for many keys."""

    def z_hat(r, key):
        run = smcgen.smc(at("r", r), key, n, resampling=scheme, ess_threshold=threshold)
        return jnp.exp(run.log_evidence)

    keys = jax.random.split(jax.random.key(n), runs)
    return jax.jit(jax.vmap(jax.value_and_grad(z_hat), (None, 0)))(MODEL.r, keys)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scheme", "n", "threshold"),
    [
        ("stop_gradient", 3, 1.0),
        (StopGradient(SCHEMES["multinomial"]), 3, 0.7),
        (StopGradient(Optimal(2)), 4, 1.0),
    ],
)
def test_derivative_of_the_evidence_is_unbiased(scheme, n, threshold):
    """E[grad Z-hat] = grad Z = Z times the Kalman filter's score, however few the particles."""
    value, slope = slopes(scheme, n, threshold)
    z, slope_of_z = exact("r")
    assert_unbiased(value / z, 1.0, "Z")
    assert_unbiased(slope / slope_of_z, 1.0, "grad Z")


@pytest.mark.slow
def test_without_the_correction_it_is_biased():
    """The test above can fail."""
    value, slope = slopes("systematic", 3, 1.0)
    z, slope_of_z = exact("r")
    assert_unbiased(value / z, 1.0, "Z")
    assert abs(z_score(slope, slope_of_z)) > 2 * LIMIT


@pytest.mark.slow
def test_values_are_those_of_the_scheme():
    log_weights = jnp.array([0.3, -jnp.inf, -0.4, 1.2])
    scheme, key = StopGradient(SCHEMES["multinomial"]), jax.random.key(3)

    def mass(log_weights):
        ancestors, new = scheme.weighted(key, jax.nn.log_softmax(log_weights))
        return jnp.sum(jnp.exp(new) * ancestors), (ancestors, new)

    slope, (ancestors, new) = jax.grad(mass, has_aux=True)(log_weights)
    np.testing.assert_array_equal(ancestors, SCHEMES["multinomial"](key, log_weights))
    np.testing.assert_array_equal(new, np.float32(-np.log(4)))
    assert np.isfinite(slope).all()
    assert np.any(slope != 0)


# ---- transport ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_plan_has_its_marginals():
    rng = np.random.default_rng(0)
    points = jnp.asarray(rng.normal(size=(12, 2)), jnp.float32)
    log_weights = jnp.asarray(rng.normal(size=12), jnp.float32).at[3].set(-jnp.inf)
    plan = jax.jit(Transport(tolerance=1e-5).plan)(log_weights, points)
    np.testing.assert_allclose(plan.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(plan.sum(0), 12 * jax.nn.softmax(log_weights), rtol=2e-4, atol=1e-7)
    assert (plan[:, 3] == 0).all()
    one = Transport().plan(log_weights, jnp.ones((12, 2)))  # all at one place: nothing to divide by
    np.testing.assert_allclose(one @ jnp.ones(12), 1, rtol=1e-5)


@pytest.mark.slow
def test_little_entropy_gives_the_optimal_plan():
    """On the line the optimal coupling is the monotone one: here with sorted points it can be written down."""
    points = jnp.linspace(-2, 2, 8)[:, None]
    w = np.array([4, 0, 0, 1, 1, 2, 0, 0]) / 8
    with np.errstate(divide="ignore"):
        log_weights = jnp.asarray(np.log(w), jnp.float32)
    plan = jax.jit(Transport(0.01, max_iterations=5000).plan)(log_weights, points)
    monotone = np.zeros((8, 8))
    monotone[np.arange(8), np.repeat(np.arange(8), (8 * w).astype(int))] = 1
    np.testing.assert_allclose(plan, monotone, atol=0.01)


@pytest.mark.slow
def test_derivative_of_the_plan():
    """Against differences, in double precision: the derivative is that of the fixed point."""
    rng = np.random.default_rng(1)
    with jax.enable_x64(True):
        x, v = (jnp.asarray(rng.normal(size=(6, 2))) for _ in range(2))
        lw, u = (jnp.asarray(rng.normal(size=6)) for _ in range(2))
        target = jnp.asarray(rng.normal(size=(6, 2)))
        scheme = Transport(tolerance=1e-12, max_iterations=5000)
        loss = jax.jit(
            lambda h: jnp.sum((scheme.plan(lw + h * u, x + h * v) @ (x + h * v)) * target)
        )
        difference = (loss(1e-5) - loss(-1e-5)) / 2e-5
        np.testing.assert_allclose(jax.grad(loss)(0.0), difference, rtol=1e-6)
        np.testing.assert_allclose(jax.jvp(loss, (0.0,), (1.0,))[1], difference, rtol=1e-6)


@pytest.mark.slow
def test_a_whole_run_is_differentiable():
    """log Z-hat with a fixed key, in a parameter: against differences of the same programme."""
    scheme = Transport(tolerance=1e-5)

    @jax.jit
    def log_z(a):
        run = smcgen.smc(at("a", a), 5, 16, resampling=scheme, ess_threshold=1.0)
        return run.log_evidence

    slope = jax.grad(log_z)(0.9)
    h = 2e-2
    d1, d2 = ((log_z(0.9 + k * h) - log_z(0.9 - k * h)) / (2 * k * h) for k in (1, 2))
    np.testing.assert_allclose(slope, (4 * d1 - d2) / 3, rtol=5e-3)


@pytest.mark.slow
def test_transport_is_consistent():
    """Biased at any n, and close at many: evidence, mean, and the score."""
    log_z, mean = MODEL.kalman()
    z, slope_of_z = exact("a")

    def one(a, key):
        run = smcgen.smc(at("a", a), key, 500, resampling=Transport(0.1), ess_threshold=0.5)
        return run.log_evidence, run

    (value, run), slope = jax.jit(jax.value_and_grad(one, has_aux=True))(0.9, jax.random.key(2))
    np.testing.assert_allclose(value, log_z, atol=0.1)
    np.testing.assert_allclose(run.expectation(), mean, atol=0.1)
    np.testing.assert_allclose(slope, slope_of_z / z, atol=0.15)


@pytest.mark.slow
@pytest.mark.parametrize("driver", ["traced", "host"])
def test_transport_has_no_ancestors(driver):
    model = MODEL if driver == "traced" else Host(MODEL)
    run = smcgen.smc(model, 0, 8, resampling="transport", ess_threshold=0.8)
    resampled = np.asarray(run.resampled)
    assert resampled.any()
    assert run.ancestors is None
    assert np.isnan(run.log_evidence_stderr), "the genealogy says nothing"
    with pytest.raises(InvalidArgument, match="a resampling that draws ancestors"):
        run.ancestry()


def test_what_cannot_be_transported(unchecked):
    with pytest.raises(ModelError, match=r"state is int32 of shape \(8,\)"):
        smcgen.smc(chain(), 0, 8, resampling="transport")
    for scheme in ("transport", "stop_gradient", Optimal(2)):
        with pytest.raises(InvalidArgument, match="a scheme with a conditional law"):
            conditional(scheme)
