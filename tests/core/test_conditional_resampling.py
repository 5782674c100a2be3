"""Conditional resampling: the law given slot 0, exactly; and what it is for, a kernel that leaves pi alone."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcgen.core.resampling import SCHEMES, Conditional, conditional
from smcgen.errors import InvalidArgument
from tests.core import exact_resampling as exact
from tests.laws import assert_law

pytestmark = pytest.mark.usefixtures("quick_compile")
NAMES = sorted(name for name, scheme in SCHEMES.items() if isinstance(scheme, Conditional))
RUNS = 5000
# n W of particles 0..n-1; a weight of zero, one above 2, one that is whole
CASES = {
    2: [[1.0, 1.0], [1.7, 0.3], [0.0, 2.0]],
    3: [[1.4, 0.9, 0.7], [0.25, 2.0, 0.75], [0.0, 1.3, 1.7]],
    4: [[1.5, 0.75, 0.75, 1.0], [0.2, 2.6, 0.0, 1.2], [1.1, 0.6, 1.7, 0.6]],
}


@cache
def drawn(name, n):
    """Ancestors of many draws, shape (cases, pinned, runs, n)."""
    cases = jnp.log(jnp.asarray(CASES[n], jnp.float32))
    scheme = conditional(name)

    @partial(jax.vmap, in_axes=(0, 0, None))
    @partial(jax.vmap, in_axes=(0, None, 0))
    @partial(jax.vmap, in_axes=(0, None, None))
    def draw(key, log_weights, pinned):
        return scheme(key, log_weights, pinned)

    keys = jax.random.split(jax.random.key(n), (len(cases), n, RUNS))
    return np.asarray(jax.jit(draw)(keys, cases, jnp.arange(n, dtype=jnp.int32)))


@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_law_given_the_first_ancestor(name, n):
    ancestors = drawn(name, n)
    for c, nw in enumerate(CASES[n]):
        for b in range(n):
            if nw[b] == 0:
                continue
            law = exact.conditional(name, np.array(nw), b)
            cells = np.array(sorted(law))
            place = lambda a: np.ravel_multi_index(tuple(np.moveaxis(a, -1, 0)), (n,) * n)
            counts = np.bincount(place(ancestors[c, b]), minlength=n**n)
            probabilities = np.zeros(n**n)
            probabilities[place(cells)] = [law[tuple(cell)] for cell in cells.tolist()]
            assert_law(counts, probabilities, f"{name}, n W {nw}, slot 0 from {b}")


@pytest.mark.parametrize("name", NAMES)
def test_edges(name):
    scheme = jax.jit(conditional(name))
    none = scheme(jax.random.key(0), jnp.full(4, -jnp.inf), jnp.int32(2))
    np.testing.assert_array_equal(none, -1)
    for survivor in (0, 3):  # one particle has it all
        alone = jnp.full(4, -jnp.inf).at[survivor].set(-300.0)
        ancestors = scheme(jax.random.key(1), alone, jnp.int32(survivor))
        np.testing.assert_array_equal(ancestors, survivor)
    lost = scheme(jax.random.key(2), jnp.array([0.0, -jnp.inf, 1.0, 0.5]), jnp.int32(1))
    assert lost[0] == 1
    assert not np.any(lost[1:] == 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_large_n(name):
    """Counts of the others keep the scheme's bounds, up to the one that is pinned."""
    n = 50_000
    log_weights = np.random.default_rng(n).normal(0, 1, n).astype(np.float32)
    pinned = int(np.argsort(log_weights)[1000])  # a light one
    ancestors = jax.jit(conditional(name))(
        jax.random.key(0), jnp.asarray(log_weights), jnp.int32(pinned)
    )
    assert ancestors[0] == pinned
    offspring = np.bincount(np.asarray(ancestors), minlength=n)
    w = np.exp(log_weights.astype(np.float64))
    nw = n * w / w.sum()
    if name in ("systematic", "ssp"):
        assert (offspring >= np.floor(nw - 1e-6)).all()
        assert (offspring <= np.ceil(nw + 1e-6)).all()
    block = np.cumsum(offspring - nw)[:: n // 100]
    assert np.abs(block).max() < 2 * np.sqrt(n)


# ---- what it is for: one sweep of conditional SMC from the exact law ------------------------------------

START, MOVE = np.array([0.6, 0.4]), np.array([[0.8, 0.2], [0.3, 0.7]])
POTENTIAL = np.array([[1.0, 0.2], [0.3, 1.0], [1.0, 0.1]])


def posterior():
    """pi(x_0, x_1, x_2) of the chain, shape (2, 2, 2)."""
    g0, g1, g2 = POTENTIAL
    joint = np.einsum("a,ab,bc->abc", START * g0, MOVE * g1, MOVE * g2)
    return joint / joint.sum()


@cache
def sweep(resample, n, runs=50_000):
    """Paths after one sweep from exact draws, as counts of shape (2, 2, 2)."""
    log_start, log_move, log_g = (jnp.log(jnp.asarray(a)) for a in (START, MOVE, POTENTIAL))
    law = jnp.log(jnp.asarray(posterior().ravel()))

    def one(key):
        keys = jax.random.split(key, 8)
        path = jnp.stack(jnp.unravel_index(jax.random.categorical(keys[0], law), (2, 2, 2)))
        x = jax.random.categorical(keys[1], log_start, shape=(n,)).at[0].set(path[0])
        paths, log_w = x[None], log_g[0][x]
        for t in (1, 2):
            ancestors = resample(keys[2 * t], log_w, jnp.int32(0))
            paths = paths[:, ancestors]
            x = jax.random.categorical(keys[2 * t + 1], log_move[paths[-1]]).at[0].set(path[t])
            paths, log_w = jnp.concatenate([paths, x[None]]), log_g[t][x]
        a, b, c = paths[:, jax.random.categorical(keys[7], log_w)]
        return 4 * a + 2 * b + c

    ends = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(7), runs))
    return np.bincount(np.asarray(ends), minlength=8).reshape(2, 2, 2)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("n", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_one_sweep_leaves_the_posterior_invariant(name, n):
    assert_law(sweep(conditional(name), n), posterior(), f"{name}, n={n}")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["systematic", "multinomial"])
def test_the_sweep_sees_what_is_wrong(name):
    """A scheme whose first slot is overwritten: what other libraries did, and what fails."""

    def overwritten(key, log_weights, pinned):
        ancestors = SCHEMES[name](key, log_weights)
        return jnp.sort(ancestors).at[0].set(pinned)

    with pytest.raises(AssertionError, match="p="):
        assert_law(sweep(overwritten, 2), posterior())


def test_what_has_no_conditional_law(unchecked):
    with pytest.raises(InvalidArgument, match="a scheme with a conditional law: .*'systematic'"):
        conditional(lambda key, log_weights: jnp.argsort(log_weights))
