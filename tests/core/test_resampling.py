"""Resampling schemes: unbiased, within their bounds, never a particle of weight zero, at any n."""

from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from smcgen.core.resampling import (
    SCHEMES,
    fixed,
    killing,
    multinomial,
    resolve,
    stratified,
    systematic,
)
from smcgen.errors import InvalidArgument, UnknownName
from tests.core import exact_resampling
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


def every_scheme(key, log_weights):
    """Ancestors by every scheme, in one program."""
    return {name: scheme(key, log_weights) for name, scheme in SCHEMES.items()}


alone = jax.jit(every_scheme)
many = jax.jit(jax.vmap(jax.vmap(every_scheme)))


def repeated(log_weights, n, seed):
    """Keys and weights of `RUNS` resamplings of each of five cases."""
    shape = (len(CASES[n]), RUNS)
    rows = jnp.broadcast_to(jnp.asarray(log_weights, jnp.float32), (*shape, n))
    return jax.random.split(jax.random.key(seed), shape), rows


@cache
def drawn(n):
    """Resamplings of the cases by every scheme, shape (cases, runs, n) each, and their keys."""
    keys, rows = repeated(jnp.asarray(CASES[n], jnp.float32)[:, None], n, n)
    return keys, {name: np.asarray(a) for name, a in many(keys, rows).items()}


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


@pytest.mark.parametrize(
    "n", [pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow), 7]
)
@pytest.mark.parametrize("name", NAMES)
def test_expected_offspring_and_bounds(name, n):
    cases = jnp.asarray(CASES[n], jnp.float32)
    keys, by_name = drawn(n)
    ancestors = by_name[name]
    assert ancestors.shape == (len(cases), RUNS, n)
    assert ancestors.dtype == np.int32
    assert ancestors.min() >= 0
    if n == 7:  # alone, jitted and mapped twice are one scheme
        for c in range(len(cases)):
            np.testing.assert_array_equal(alone(keys[c, 0], cases[c])[name], ancestors[c, 0])
    for case, rows in zip(cases, ancestors, strict=True):
        offspring, nw = counts(rows, n), weights(case)
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
        ancestors = alone(jax.random.key(1), jnp.full(7, value))[name]
        np.testing.assert_array_equal(np.sort(ancestors), np.arange(7))


@pytest.mark.parametrize("name", NAMES)
def test_no_weight_at_all_gives_minus_one(name):
    """Never silently ancestor 0."""
    ancestors = alone(jax.random.key(0), jnp.full(7, -jnp.inf))[name]
    np.testing.assert_array_equal(ancestors, -1)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("survivor", [0, 3, 6])
def test_one_survivor(name, survivor):
    log_weights = jnp.full(7, -jnp.inf).at[survivor].set(-300.0)
    np.testing.assert_array_equal(alone(jax.random.key(0), log_weights)[name], survivor)


def draw_seven(name, log_weights, seed):
    """Many independent resamplings of seven particles, shape (runs, 7)."""
    return np.asarray(many(*repeated(log_weights, 7, seed))[name]).reshape(-1, 7)


MIXED = [0.3, -0.4, 1.2, -0.7, 0.4, -1.5, 0.2]


# n W of four particles: a weight of zero, one above 2, one that is whole, even ones
FOUR = [[1.5, 0.75, 0.75, 1.0], [0.2, 2.6, 0.0, 1.2], [1.1, 0.6, 1.7, 0.6], [1.0] * 4]


@cache
def drawn_four():
    keys = jax.random.split(jax.random.key(4), (len(FOUR), RUNS))
    # logarithms of NumPy's: those of a GPU are rounded otherwise, and then 1 is a little less than whole
    with np.errstate(divide="ignore"):
        logs = np.log(np.array(FOUR, np.float32))
    return jax.jit(jax.vmap(jax.vmap(every_scheme, (0, None))))(keys, logs)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_law_of_the_offspring(name):
    """The joint law of all counts, by enumeration."""
    drawn = drawn_four()[name]
    place = lambda counts: np.ravel_multi_index(tuple(np.moveaxis(counts, -1, 0)), (5,) * 4)
    for nw, ancestors in zip(FOUR, np.asarray(drawn), strict=True):
        probabilities = np.zeros(5**4)
        for vector, p in exact_resampling.law(name, nw).items():
            probabilities[place(np.bincount(vector, minlength=4))] += p
        found = np.bincount(place(counts(ancestors, 4)), minlength=5**4)
        assert_law(found, probabilities, f"{name}, n W {nw}")


def test_killing_leaves_a_survivor_in_its_place():
    """P(A_i = i) >= W_i / max W, and the heaviest always stays; what is drawn goes to the others in order."""
    ancestors = draw_seven("killing", MIXED, 6)
    s = weights(MIXED) / weights(MIXED).max()
    stays = ancestors == np.arange(7)
    assert stays[:, s.argmax()].all()
    error = np.sqrt(s * (1 - s) / len(stays))
    assert (stays.mean(0) >= s - LIMIT * error).all()
    assert (stays.mean(0)[s < 1] < 1).all()
    for row, moved in zip(ancestors[:500], ~stays[:500], strict=True):
        assert (np.diff(row[moved]) >= 0).all()


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


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_ten_million(name):
    """Bounds and blocks; equal weights keep every particle, or the share that independent draws keep.

    In float32 `k + u` loses u above 2^23, and with it nine hundred thousand particles; `-log(u)` with u = 0 is infinite
    about once in ten million draws, and then two ancestors are left.
    """
    n = 10**7
    scheme = jax.jit(SCHEMES[name])
    log_weights = np.random.default_rng(n).normal(0, 2, n).astype(np.float32)
    log_weights[[0, n // 2, n - 1]] = -np.inf
    check_large(name, log_weights, scheme(jax.random.key(n), jnp.asarray(log_weights)))
    equal = jnp.full(n, -jnp.log(n))
    for seed in range(2 if name == "multinomial" else 1):
        ancestors = np.asarray(scheme(jax.random.key(seed), equal))
        if name == "multinomial":
            unique = np.count_nonzero(np.bincount(ancestors, minlength=n))
            assert abs(unique - n * (1 - np.exp(-1))) < 5 * np.sqrt(n)
        else:
            np.testing.assert_array_equal(ancestors, np.arange(n))


def check_large(name, log_weights, ancestors):
    n, nw = len(log_weights), weights(log_weights)
    ancestors = np.asarray(ancestors)
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


@pytest.mark.slow
def test_extreme_random_bits(monkeypatch):
    """u = 0 would choose a first particle of weight zero, u = 1 none."""
    cases = jnp.asarray(CASES[7])

    def drawn(bits):
        full = lambda key, shape, dtype: jnp.full(shape, bits, dtype)
        words = lambda key, shape: jnp.full((*shape, 2), bits, jnp.uint32)
        monkeypatch.setattr(jax.random, "bits", full)
        for module in (fixed, systematic, stratified, killing):  # `random_bits` asks `random_words`
            monkeypatch.setattr(module, "random_words", words)
        u = fixed.double_uniforms(jax.random.key(0), (3,))
        return u, jax.vmap(every_scheme, (None, 0))(jax.random.key(0), cases)

    u, found = jax.jit(jax.vmap(drawn))(jnp.array([0, 2**32 - 1], jnp.uint32))
    assert u.dtype == np.float64
    assert (np.asarray(u) > 0).all()
    assert (np.asarray(u) < 1).all()
    for ancestors in found.values():
        for a in np.asarray(ancestors):
            assert (a >= 0).all()
            assert np.isfinite(np.take_along_axis(np.asarray(cases), a, 1)).all()


@pytest.mark.parametrize("n", [1, 64, 65, 1000, 70_001])
def test_prefix_sums(n):
    x = np.random.default_rng(n).integers(0, 2**40, n)
    with jax.enable_x64(True):
        np.testing.assert_array_equal(fixed.prefix_sum(jnp.asarray(x)), np.cumsum(x))
        np.testing.assert_array_equal(fixed._in_turn(jnp.asarray(x)), np.cumsum(x))


@pytest.mark.parametrize("n", [1, 3, 1000])
def test_expected_copies_are_exact_where_they_can_be(n):
    log_weights = np.random.default_rng(n).normal(0, 3, n).astype(np.float32)
    log_weights[n // 2 + 1 :: 3] = -np.inf
    with jax.enable_x64(True):
        one = 1 << fixed.fraction_bits(n)
        copies = np.asarray(fixed.expected_copies(jnp.asarray(log_weights, jnp.float32)))
        assert copies.sum() == n * one
        assert (copies[np.isneginf(log_weights)] == 0).all()
        np.testing.assert_allclose(copies / one, weights(log_weights), atol=n / one, rtol=1e-14)
        even = np.asarray(fixed.expected_copies(jnp.full(n, -3.7, jnp.float32)))
        assert (even == one).all()


@pytest.mark.slow
def test_points_and_searching():
    words = jax.random.bits(jax.random.key(0), (501,), jnp.uint32)
    with jax.enable_x64(True):
        one = 1 << fixed.fraction_bits(1000)
        points = np.asarray(fixed.sorted_points(words, 400, 900 * one))
        assert (np.diff(points[:400]) >= 0).all()
        assert (points[400:] > 1000 * one).all()
        assert stats.kstest(points[:400] / (900 * one), "uniform").pvalue > 1e-6
        rng = np.random.default_rng(0)
        edges = np.sort(np.repeat(rng.integers(0, 1000 * one, 700), rng.poisson(2, 700)))
        edges[:5] = 0
        edges = np.concatenate([edges, np.full(3, 1 << 62)])  # beyond the end
        asked = np.sort(np.concatenate([[-1, 0, 1000 * one - 1], edges[::7], points[:100]]))
        found = fixed.count_upto(jnp.asarray(edges), jnp.asarray(asked), 1000)
        np.testing.assert_array_equal(found, np.searchsorted(edges, asked, side="right"))


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
