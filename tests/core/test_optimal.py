"""Optimal resampling: unbiased weights, no copies, the least variance; and the discrete particle filter."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen.core.finite import FiniteChain
from smcgen.core.resampling import Optimal, weighted
from smcgen.errors import InvalidArgument
from tests.core.models import chain
from tests.laws import assert_unbiased

CASES = np.array(
    [
        [0.3, 0.05, 0.1, 0.2, 0.05, 0.3],
        [0.9, 0.02, 0.02, 0.02, 0.02, 0.02],
        [1 / 6] * 6,
        [0.0, 0.4, 0.1, 0.0, 0.2, 0.3],
        [0.0, 0.5, 0.0, 0.0, 0.5, 0.0],
        [0.0, 0.0, 1.0, 0.0, 0.0, 0.0],
        [0.0] * 6,
    ]
)
RUNS = 5000


@pytest.fixture(scope="module")
def thinned():
    """Ancestors and weights of three particles of six, each in two slots; shape (cases, runs, 6) both."""
    keys = jax.random.split(jax.random.key(0), (len(CASES), RUNS))
    draw = jax.vmap(jax.vmap(lambda k, w: weighted(Optimal(2), k, w), (0, None)))
    ancestors, log_weights = jax.jit(draw)(keys, jnp.log(jnp.asarray(CASES, jnp.float32)))
    return np.asarray(ancestors), np.exp(np.asarray(log_weights, np.float64))


def threshold(w, m):
    """c with `sum min(w / c, 1) = m`, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(200):
        c = (low + high) / 2
        low, high = (c, high) if np.minimum(w / c, 1).sum() > m else (low, c)
    return high


@pytest.mark.slow
def test_weights_are_unbiased_and_no_particle_is_kept_twice(thinned):
    for w, ancestors, new in zip(CASES, *thinned, strict=True):
        if not w.any():
            assert (ancestors == -1).all()
            assert (new == 0).all()
            continue
        np.testing.assert_allclose(new.sum(1), 1, rtol=1e-5)
        np.testing.assert_array_equal(ancestors[:, ::2], ancestors[:, 1::2])  # copies, side by side
        np.testing.assert_array_equal(new[:, ::2], new[:, 1::2])
        there = new[:, ::2] > 0
        kept = np.where(there, ancestors[:, ::2], -np.arange(1, 4))  # all different
        assert all(np.all(kept[:, i] != kept[:, j]) for i, j in itertools.combinations(range(3), 2))
        after = np.zeros((RUNS, 6))
        np.add.at(after, (np.arange(RUNS)[:, None], ancestors), new)
        c = threshold(w, 3) if (w > 0).sum() > 3 else 0.0
        sure, light = w > c - 1e-6, (w > 0) & (w < c - 1e-6)
        np.testing.assert_allclose(after[:, sure], np.tile(w[sure], (RUNS, 1)), rtol=1e-5)
        assert np.all(np.isclose(after[:, light], c) | (after[:, light] == 0))
        for i in np.flatnonzero(light):
            assert_unbiased(after[:, i], w[i], f"weights {w}, particle {i}")
        # Fearnhead and Clifford (2003), theorem 1: the least sum of variances there is
        spread = ((after - w) ** 2).sum(1).mean()
        np.testing.assert_allclose(spread, (w * np.maximum(c - w, 0)).sum(), rtol=0.1, atol=1e-9)


@pytest.mark.optimised
@pytest.mark.slow
def test_a_million():
    log_weights = jnp.asarray(np.random.default_rng(0).normal(0, 2, 10**6), jnp.float32)
    ancestors, new = jax.jit(Optimal(10).weighted)(jax.random.key(0), log_weights)
    kept = np.asarray(ancestors)[::10]
    assert len(np.unique(kept)) == 10**5
    np.testing.assert_allclose(np.exp(np.asarray(new, np.float64)).sum(), 1, rtol=1e-6)


MODEL = chain(0, steps=3)
FINITE = FiniteChain(MODEL.log_start, MODEL.log_move, MODEL.log_g)


def test_it_enumerates_while_it_can():
    """27 paths to x_2 fit into 27 particles: then there is nothing random."""
    short = FiniteChain(FINITE.log_initial, FINITE.log_move, FINITE.log_g[:3])
    run = smcgen.smc(short, 0, 27, resampling=Optimal(3), ess_threshold=1.0)
    exact = type(MODEL)(MODEL.log_start, MODEL.log_move, MODEL.log_g[:3])
    np.testing.assert_allclose(np.exp(run.log_evidence), exact.exact(), rtol=1e-5)
    mean = exact.exact(lambda path: path[-1]) / exact.exact()
    np.testing.assert_allclose(run.expectation(), mean, rtol=1e-5)


@pytest.mark.slow
def test_the_discrete_particle_filter_is_unbiased():
    def z_hats(model, **options):
        run = lambda key: jnp.exp(
            smcgen.smc(model, key, 12, ess_threshold=1.0, **options).log_evidence
        )
        return jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(1), 2000))

    z = MODEL.exact()
    discrete, bootstrap = z_hats(FINITE, resampling=Optimal(3)), z_hats(MODEL)
    assert_unbiased(discrete / z, 1.0)
    assert np.var(discrete) < 0.2 * np.var(bootstrap)


def test_errors():
    with pytest.raises(
        InvalidArgument, match="copies=4 is not allowed: expected a divisor of .* 6"
    ):
        Optimal(4).weighted(jax.random.key(0), jnp.zeros(6))
    with pytest.raises(InvalidArgument, match="a multiple of 3"):
        smcgen.smc(FINITE, 0, 10, resampling=Optimal(3))
