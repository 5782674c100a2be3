"""The uniforms of tokens: the same for a particle whoever runs beside it, and uniform."""

import jax
import numpy as np
import pytest

from smcgen.text.randomness import BLOCK, StepRandomness
from tests.laws import assert_law, assert_unbiased

POSITIONS = (0, 1, BLOCK, BLOCK + 1, 3 * BLOCK + 7)
KNOWN = [
    [0.462561534504523, 0.07939212903778825],
    [0.476858081693757, 0.019510053259322535],
    [0.9634397672225091, 0.2974468526353199],
]


def test_a_particle_has_its_own_whatever_runs_beside_it():
    keys = jax.random.split(jax.random.key(6), 2)
    alone, beside = StepRandomness(keys[1], 3), StepRandomness(keys, 5)
    old = StepRandomness(jax.random.key_data(keys[1]), 3)  # a key as raw words
    for position in POSITIONS:
        np.testing.assert_array_equal(
            alone.uniforms(position), beside.uniforms(position).reshape(2, 5)[1, :3]
        )
        np.testing.assert_array_equal(alone.uniforms(position), old.uniforms(position))


@pytest.mark.parametrize("n", [1, 3, 64])
def test_they_are_uniform_and_apart(n):
    """Over particles, positions and steps: right frequencies, and neighbours know nothing of each other."""
    keys = jax.random.split(jax.random.key(n), 1920 // n)
    steps = StepRandomness(keys, n)
    u = np.stack([steps.uniforms(position) for position in range(2 * BLOCK + 2)])
    assert ((u > 0) & (u < 1)).all()
    assert len(np.unique(u)) == u.size
    cells, law = 64, np.full(64, 1 / 64)
    assert_law(np.bincount((u.ravel() * cells).astype(int), minlength=cells), law)
    bits = (u * 2.0**52).astype(np.uint64)
    for bit in range(52):
        assert_unbiased((bits >> np.uint64(bit) & np.uint64(1)).ravel().astype(float), 0.5)
    centred = (u - 0.5) * 12**0.5
    for a, b in ((centred[1:], centred[:-1]), (centred[:, 1:], centred[:, :-1])):
        assert_unbiased((a * b).ravel(), 0.0)
    assert_unbiased((centred[:, n:] * centred[:, :-n]).ravel(), 0.0)  # of the next key


def test_they_are_the_same_everywhere():
    """A seed names a text on any machine and with any version: NumPy keeps Philox's stream."""
    step = StepRandomness(jax.random.key(7), 2)
    got = [step.uniforms(position).tolist() for position in (0, 1, BLOCK + 1)]
    assert got == KNOWN
