"""Resampling schemes: unbiased, within their bounds, never a particle of weight zero, at any n."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from smcgen.core.resampling import SCHEMES, base, multinomial, resolve
from smcgen.errors import InvalidArgument, UnknownName
from tests.laws import LIMIT, assert_law, assert_unbiased

NAMES = sorted(SCHEMES)
INF = np.inf
# Cases of equal length share a compiled function: rows of one array.
CASES = {
    2: [[0.0, 0.0], [-1.0, 2.0], [-INF, 0.0], [0.0, -INF], [-80.0, 0.0]],
    3: [[0.0, 0.0, 0.0], [-INF, 0.3, -0.4], [0.3, -0.4, -INF], [1.0, -INF, 0.0], [0.0, 5.0, -9.0]],
    7: [
        [0.0] * 7,
        [-INF] * 3 + [2.0] + [-INF] * 3,
        [-INF, 0.1, -INF, 1.2, -0.7, 0.4, -INF],
        [0.0, -1.0, -2.0, -3.0, -4.0, -5.0, 6.0],
        [-INF, -INF, 0.0, 0.0, 0.0, -INF, -INF],
    ],
}
RUNS = 4000


def weights(log_weights):
    """n W_i in double precision."""
    lw = np.asarray(log_weights, np.float64)
    w = np.exp(lw - lw.max(-1, keepdims=True))
    return lw.shape[-1] * w / w.sum(-1, keepdims=True)


@cache
def compiled(name, axes=0):
    scheme = SCHEMES[name]
    for _ in range(axes):
        scheme = jax.vmap(scheme)
    return jax.jit(scheme)


def counts(ancestors, n):
    return np.stack([np.bincount(row, minlength=n) for row in np.asarray(ancestors).reshape(-1, n)])


def bounds(name, nw):
    """Least and greatest offspring count that a scheme allows; nw may be off by rounding."""
    low, high = np.floor(nw - 1e-9), np.ceil(nw + 1e-9)
    return {
        "systematic": (low, high),
        "ssp": (low, high),
        "residual": (low, np.inf),
        "stratified": (nw - 2, nw + 2),
    }.get(name, (0, np.inf))


@pytest.mark.parametrize("n", [pytest.param(2, marks=pytest.mark.slow), 3, 7])
@pytest.mark.parametrize("name", NAMES)
def test_expected_offspring_and_bounds(name, n):
    cases = jnp.asarray(CASES[n], jnp.float32)
    keys = jax.random.split(jax.random.key(n), (len(cases), RUNS))
    repeated = jnp.broadcast_to(cases[:, None], (len(cases), RUNS, n))
    ancestors = np.asarray(compiled(name, 2)(keys, repeated))
    assert ancestors.shape == (len(cases), RUNS, n)
    assert ancestors.dtype == np.int32
    assert ancestors.min() >= 0
    if n == 7:  # alone, jitted and mapped twice are one scheme
        for c in range(len(cases)):
            np.testing.assert_array_equal(compiled(name)(keys[c, 0], cases[c]), ancestors[c, 0])
    for case, drawn in zip(cases, ancestors, strict=True):
        offspring, nw = counts(drawn, n), weights(case)
        low, high = bounds(name, nw)
        assert (offspring >= low).all()
        assert (offspring <= high).all()
        for i in range(n):
            if nw[i] * RUNS > 50:
                assert_unbiased(offspring[:, i], nw[i], f"{name}, weights {case}, particle {i}")
            else:  # too rare for a normal law
                assert offspring[:, i].sum() <= stats.poisson.isf(1e-6, nw[i] * RUNS)
        assert (offspring[:, np.isneginf(case)] == 0).all()
        assert (offspring.sum(1) == n).all()


@pytest.mark.parametrize("name", ["systematic", "stratified", "residual", "ssp", "killing"])
def test_equal_weights_keep_every_particle(name):
    """Only multinomial resampling loses particles of equal weight."""
    for value in (0.0, -3.7, 88.0, -1e4):
        ancestors = compiled(name)(jax.random.key(1), jnp.full(7, value))
        np.testing.assert_array_equal(np.sort(ancestors), np.arange(7))


@pytest.mark.parametrize("name", NAMES)
def test_no_weight_at_all_gives_minus_one(name):
    """Never silently ancestor 0."""
    ancestors = compiled(name)(jax.random.key(0), jnp.full(7, -jnp.inf))
    np.testing.assert_array_equal(ancestors, -1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("survivor", [0, 3, 6])
def test_one_survivor(name, survivor):
    log_weights = jnp.full(7, -jnp.inf).at[survivor].set(-300.0)
    np.testing.assert_array_equal(compiled(name)(jax.random.key(0), log_weights), survivor)


def draw_seven(name, log_weights, seed):
    """Many independent resamplings of seven particles, shape (runs, 7)."""
    shape = (len(CASES[7]), RUNS)
    keys = jax.random.split(jax.random.key(seed), shape)
    repeated = jnp.broadcast_to(jnp.asarray(log_weights, jnp.float32), (*shape, 7))
    return np.asarray(compiled(name, 2)(keys, repeated)).reshape(-1, 7)


MIXED = [0.3, -0.4, 1.2, -0.7, 0.4, -1.5, 0.2]


def test_multinomial_draws_are_independent():
    """The law of the pair (A_1, A_7) is the product law: no order, no dependence."""
    ancestors = draw_seven("multinomial", MIXED, 5)
    w = weights(MIXED) / 7
    pairs = np.zeros((7, 7))
    np.add.at(pairs, (ancestors[:, 0], ancestors[:, 6]), 1)
    assert_law(pairs, np.outer(w, w))


def test_killing_leaves_a_survivor_in_its_place():
    """P(A_i = i) = s + (1 - s) W_i with s = W_i / max W."""
    ancestors = draw_seven("killing", MIXED, 6)
    w = weights(MIXED) / 7
    s = w / w.max()
    for i in range(7):
        assert_unbiased(ancestors[:, i] == i, s[i] + (1 - s[i]) * w[i], f"slot {i}")


@pytest.mark.parametrize("name", ["ssp", "residual", "multinomial"])
def test_negative_association(name):
    """Cov(O_i, O_j) <= 0 for all pairs: what the consistency proofs of SSP rest on."""
    offspring = counts(draw_seven(name, MIXED, 7), 7) - weights(MIXED)
    for i in range(7):
        for j in range(i):
            products = offspring[:, i] * offspring[:, j]
            error = products.std() / np.sqrt(len(products))
            assert products.mean() <= LIMIT * max(error, 1e-12), f"particles {i} and {j}"


def test_systematic_is_not_negatively_associated():
    """Why SSP exists: in this order, particles 0 and 2 get their extra copy together."""
    nw = np.array([1.4, 0.6, 1.4, 0.6, 1.0, 1.0, 1.0])
    offspring = counts(draw_seven("systematic", np.log(nw), 8), 7) - nw
    assert np.mean(offspring[:, 0] * offspring[:, 2]) > 0.05
    offspring = counts(draw_seven("ssp", np.log(nw), 8), 7) - nw
    assert np.mean(offspring[:, 0] * offspring[:, 2]) < 0.01


@pytest.mark.optimised
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [pytest.param(1000, marks=pytest.mark.slow), 100_000])
def test_bounds_at_large_n(name, n):
    log_weights = np.random.default_rng(n).normal(0, 2, n).astype(np.float32)
    log_weights[[0, n // 2, n - 1]] = -np.inf
    check_large(name, log_weights, jax.random.key(n))


def check_large(name, log_weights, key):
    n, nw = len(log_weights), weights(log_weights)
    ancestors = np.asarray(compiled(name)(key, jnp.asarray(log_weights)))
    assert ancestors.shape == (n,)
    offspring = np.bincount(ancestors, minlength=n)  # raises for -1
    assert len(offspring) == n
    low, high = bounds(name, nw)
    # a sum of n terms in double precision is off by rounding: near an integer either side is right
    close = np.abs(nw - np.round(nw)) < 1e-9 * n
    assert ((offspring >= low) | close).all()
    assert ((offspring <= high) | close).all()
    assert (offspring[np.isneginf(log_weights)] == 0).all()
    # the total mass of any block is right: nothing drifts along the array
    block = np.cumsum(offspring - nw)[:: max(n // 100, 1)]
    exact = name in ("systematic", "stratified", "ssp")
    assert np.abs(block).max() < (np.sqrt(n) * 1.5 if not exact else 3 + 0.4 * np.sqrt(n))


@pytest.mark.optimised
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [10**6, 10**7])
def test_bounds_at_very_large_n(name, n):
    log_weights = np.random.default_rng(n).normal(0, 2, n).astype(np.float32)
    log_weights[[0, n // 2, n - 1]] = -np.inf
    check_large(name, log_weights, jax.random.key(n))


@pytest.mark.optimised
@pytest.mark.slow
@pytest.mark.parametrize("name", ["systematic", "stratified", "residual", "ssp"])
def test_ten_million_equal_weights_keep_every_particle(name):
    """`k + u` in float32 loses u above 2^23, and with it nine hundred thousand particles."""
    n = 10**7
    ancestors = compiled(name)(jax.random.key(0), jnp.full(n, -jnp.log(n)))
    np.testing.assert_array_equal(np.asarray(ancestors), np.arange(n))


@pytest.mark.optimised
@pytest.mark.slow
def test_multinomial_does_not_collapse_at_a_million():
    """-log(u) with u = 0 in float32 is infinite about once in ten such runs: two ancestors are left."""
    n, log_weights = 10**6, jnp.zeros(10**6)
    for seed in range(40):
        ancestors = np.asarray(compiled("multinomial")(jax.random.key(seed), log_weights))
        unique = np.count_nonzero(np.bincount(ancestors, minlength=n))
        assert abs(unique - n * (1 - np.exp(-1))) < 5 * np.sqrt(n)


@pytest.mark.parametrize("bits", [0, 2**32 - 1])
def test_uniforms_are_strictly_inside_the_unit_interval(bits, monkeypatch):
    """The two extreme draws: u = 0 would choose a first particle of weight zero, u = 1 none."""
    extreme = lambda key, shape, dtype: jnp.full(shape, bits, dtype)
    monkeypatch.setattr(jax.random, "bits", extreme)
    u = np.asarray(base.double_uniforms(jax.random.key(0), (3,)))
    assert u.dtype == np.float64
    assert (u > 0).all()
    assert (u < 1).all()
    cases = jnp.asarray(CASES[7])
    schemes = [SCHEMES[name] for name in ("multinomial", "systematic", "killing")]
    for ancestors in jax.jit(
        lambda: [jax.vmap(s, (None, 0))(jax.random.key(0), cases) for s in schemes]
    )():
        assert (np.asarray(ancestors) >= 0).all()
        assert np.isfinite(np.take_along_axis(np.asarray(cases), np.asarray(ancestors), 1)).all()


def test_inversion_at_the_edges():
    """A uniform of exactly 0 or 1, or on an edge, still finds a particle of positive weight."""
    with jax.enable_x64(True):
        uniforms, weights = jnp.asarray([0.0, 0.5, 1.0]), jnp.asarray([0.0, 1.0, 0.0, 1.0, 0.0])
        np.testing.assert_array_equal(multinomial.draw(uniforms, weights), [1, 3, 3])


def test_names(unchecked):
    with pytest.raises(UnknownName, match="'sistematic' is not allowed") as caught:
        resolve("sistematic")
    assert all(repr(name) in str(caught.value) for name in NAMES)
    with pytest.raises(InvalidArgument, match="a scheme or one of its names"):
        resolve(3)
    assert resolve("ssp") is SCHEMES["ssp"]
    assert resolve(SCHEMES["killing"]) is SCHEMES["killing"]
