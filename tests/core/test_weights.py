"""Log-weights: effective sample size, means and long sums, at extreme values too."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcgen.core import weights
from smcgen.core.select import reweight
from smcgen.core.status import Status

INF = np.inf


@pytest.mark.parametrize(
    ("log_weights", "expected"),
    [
        ([0.0, 0.0, 0.0, 0.0], 4.0),
        ([1e4, 1e4, -1e4, -INF], 2.0),
        ([-1e30, -1e30, -1e30, -1e30], 4.0),
        ([3e38, 0.0, 0.0, 0.0], 1.0),
        ([-INF, -INF, 5.0, -INF], 1.0),
        ([-INF, -INF, -INF, -INF], 0.0),
        ([0.0, np.log(2.0), np.log(3.0), -INF], 36 / 14),
    ],
)
def test_ess(log_weights, expected):
    np.testing.assert_allclose(weights.ess(jnp.asarray(log_weights)), expected, rtol=1e-6)


def test_ess_of_many_rows_is_each_rows_ess():
    rows = jax.random.normal(jax.random.key(0), (2, 3, 5))
    w = np.exp(np.asarray(rows, np.float64))
    expected = w.sum(-1) ** 2 / (w * w).sum(-1)
    np.testing.assert_allclose(weights.ess(rows), expected, rtol=1e-6)


@pytest.mark.optimised
@pytest.mark.parametrize("n", [10**6, pytest.param(10**7, marks=pytest.mark.slow)])
def test_sums_do_not_drift_in_float32(n):
    """A sequential float32 sum of so many terms is off by per cents."""
    equal = jnp.zeros(n)
    np.testing.assert_allclose(weights.ess(equal), n, rtol=1e-5)
    lw = np.random.default_rng(0).normal(0, 1.5, n).astype(np.float32)
    w = np.exp(lw.astype(np.float64))
    np.testing.assert_allclose(weights.ess(jnp.asarray(lw)), w.sum() ** 2 / (w @ w), rtol=1e-5)


@pytest.mark.parametrize(("start", "scale"), [(1000.0, 1.0), (1e5, 1e-3), (-3.0, 1e4)])
def test_compensated_sum_of_thousands_of_float32_increments(start, scale):
    terms = (scale * np.random.default_rng(1).normal(1.0, 3.0, 5000)).astype(np.float32)

    def add(carry, term):
        naive, *pair = carry
        return (naive + term, *weights.compensated_add(*pair, term)), None

    first = (jnp.float32(start), jnp.float32(start), jnp.float32(0))
    sums, _ = jax.lax.scan(add, first, jnp.asarray(terms))
    naive, total, lost = (float(x) for x in sums)
    added = terms.astype(np.float64).sum()
    assert abs(total + lost - start - added) < 1e-5 * abs(added)
    if scale < 1:
        assert abs(naive - start - added) > 1e-3 * abs(added), (
            "a plain sum would do: the test is idle"
        )


def test_compensated_sum_keeps_infinities():
    total, lost = weights.compensated_add(jnp.float32(3.0), jnp.float32(0.1), jnp.float32(-jnp.inf))
    assert total + lost == -jnp.inf
    total, lost = weights.compensated_add(total, lost, jnp.float32(5.0))
    assert total + lost == -jnp.inf


def test_gradient_of_a_compensated_sum_is_that_of_the_sum():
    def total(x):
        return sum(weights.compensated_add(x, 0.5 * x, 1e-4 * x**2))

    np.testing.assert_allclose(jax.grad(total)(3.0), 1 + 0.5 + 2e-4 * 3, rtol=1e-6)


def test_reweight_says_what_is_wrong():
    flat = jnp.full(3, -jnp.log(3.0))
    rows = jnp.asarray([[0.0, 1.0, 2.0], [0.0, jnp.nan, 0.0], [0.0, 0.0, INF], [-INF, -INF, -INF]])
    new = reweight(jnp.broadcast_to(flat, (4, 3)), rows)
    statuses = [Status.OK, *[Status.NON_FINITE_POTENTIAL] * 2, Status.ALL_WEIGHTS_ZERO]
    np.testing.assert_array_equal(new.status, statuses)
    np.testing.assert_array_equal(new.particle[1:3], [1, 2])
    assert np.isnan(new.increment[1:3]).all()
    assert new.increment[3] == -jnp.inf
    np.testing.assert_allclose(new.increment[0], np.log((1 + np.e + np.e**2) / 3), rtol=1e-6)
    # a failed problem keeps the weights it had; no NaN goes further
    np.testing.assert_array_equal(new.log_weights[1:], jnp.broadcast_to(flat, (3, 3)))
    np.testing.assert_allclose(jnp.exp(new.log_weights[0]).sum(), 1.0, rtol=1e-6)


def test_weights_are_exact_under_large_potentials():
    """log G near -1e5 has two digits behind the point in float32: differences must survive."""
    log_g = jnp.asarray([-1e5, -1e5 + 1, -1e5 + 2, -jnp.inf])
    new = reweight(jnp.log(jnp.asarray([0.1, 0.2, 0.3, 0.4])), log_g)
    w = np.array([0.1, 0.2 * np.e, 0.3 * np.e**2, 0.0])
    np.testing.assert_allclose(jnp.exp(new.log_weights), w / w.sum(), rtol=1e-6)
    np.testing.assert_allclose(new.increment, -1e5 + np.log(w.sum()), rtol=1e-7)
