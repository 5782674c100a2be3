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

NAMES = sorted(name for name, scheme in SCHEMES.items() if isinstance(scheme, Conditional))
RUNS = 4000
# n W of particles 0..n-1: a weight of zero, one above 2, one that is whole, one survivor, none
CASES = {
    2: [[1.0, 1.0], [1.7, 0.3], [0.0, 2.0], [0.0, 0.0]],
    3: [[1.4, 0.9, 0.7], [0.25, 2.0, 0.75], [0.0, 1.3, 1.7], [0.0, 0.0, 0.0]],
    4: [
        [1.5, 0.75, 0.75, 1.0],
        [0.2, 2.6, 0.0, 1.2],
        [1.1, 0.6, 1.7, 0.6],
        [4.0, 0.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 4.0],
        [0.0, 0.0, 0.0, 0.0],
    ],
}


@cache
def drawn(n):
    """Ancestors by every scheme, shape (cases, pinned, runs, n) each."""
    cases = jnp.log(jnp.asarray(CASES[n], jnp.float32))

    @partial(jax.vmap, in_axes=(0, 0, None))
    @partial(jax.vmap, in_axes=(0, None, 0))
    @partial(jax.vmap, in_axes=(0, None, None))
    def draw(key, log_weights, pinned):
        return {name: conditional(name)(key, log_weights, pinned) for name in NAMES}

    keys = jax.random.split(jax.random.key(n), (len(cases), n, RUNS))
    drawn = jax.jit(draw)(keys, cases, jnp.arange(n, dtype=jnp.int32))
    return {name: np.asarray(a) for name, a in drawn.items()}


@pytest.mark.slow
@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("name", NAMES)
def test_law_given_the_first_ancestor(name, n):
    place = lambda a: np.ravel_multi_index(tuple(np.moveaxis(a, -1, 0)), (n,) * n)
    for nw, ancestors in zip(np.array(CASES[n]), drawn(n)[name], strict=True):
        if not nw.any():
            assert (ancestors == -1).all()
            continue
        for b in range(n):
            assert (ancestors[b, :, 0] == b).all()
            if nw[b] == 0:  # an impossible reference: the others are possible all the same
                assert (nw[ancestors[b, :, 1:]] > 0).all()
                continue
            law = exact.conditional(name, nw, b)
            probabilities = np.zeros(n**n)
            probabilities[place(np.array(list(law)))] = list(law.values())
            counts = np.bincount(place(ancestors[b]), minlength=n**n)
            assert_law(counts, probabilities, f"{name}, n W {nw}, slot 0 from {b}")


@pytest.mark.parametrize("n", [2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_sweep_with_this_law_leaves_the_posterior_invariant(name, n):
    """By enumeration, to rounding."""
    found = exact.after_a_sweep(lambda nw: exact.conditional(name, np.array(nw), 0), n)
    np.testing.assert_allclose(found, exact.posterior(), atol=1e-12)


def overwritten(name, nw):
    """Sorted ancestors, the first of which is then overwritten by the reference's."""
    found = {}
    for a, p in exact.law(name, np.array(nw)).items():
        a = (0, *sorted(a)[1:])
        found[a] = found.get(a, 0) + p
    return found


def unturned(name, nw):
    """Ancestors in random order, particles not: the reference is in the first stratum, always."""
    found, n = {}, len(nw)
    for a, p in exact.law(name, np.array(nw)).items():
        for j in range(n):
            if a[j] == 0:
                turned = (*a[j:], *a[:j])
                found[turned] = found.get(turned, 0) + p / nw[0]
    return found


@pytest.mark.parametrize(
    ("wrong", "name", "n"),
    [(overwritten, "multinomial", 2), (overwritten, "systematic", 2), (unturned, "stratified", 3)],
)
def test_what_does_not_leave_it_invariant(wrong, name, n):
    """Three laws that look right. The first two are found in other libraries."""
    found = exact.after_a_sweep(partial(wrong, name), n)
    assert np.isclose(found.sum(), 1)
    assert np.abs(found - exact.posterior()).max() > 0.005


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_large_n(name):
    """Counts of the others keep the scheme's bounds, up to the one that is pinned."""
    n = 100_000
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


def test_what_has_no_conditional_law(unchecked):
    with pytest.raises(InvalidArgument, match="a scheme with a conditional law: .*'systematic'"):
        conditional(lambda key, log_weights: jnp.argsort(log_weights))
