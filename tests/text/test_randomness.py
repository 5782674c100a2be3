"""The uniforms of tokens: JAX's bits, the same for a particle whoever runs beside it."""

import jax
import numpy as np
import pytest

from smcgen.text.randomness import BLOCK, FIRST, StepRandomness


@pytest.mark.parametrize("position", [0, FIRST - 1, FIRST, FIRST + BLOCK - 1, FIRST + 3 * BLOCK])
def test_they_are_those_of_jax(position):
    keys, n = jax.random.split(jax.random.key(5), 3), 4
    block, width = (0, FIRST) if position < FIRST else (1 + (position - FIRST) // BLOCK, BLOCK)
    at = position if position < FIRST else (position - FIRST) % BLOCK
    got = StepRandomness(keys, n).uniforms(position).reshape(3, n)
    for key, mine in zip(keys, got, strict=True):
        bits = jax.random.bits(jax.random.fold_in(key, block), (n, width, 2), np.uint32)
        high, low = (np.asarray(bits)[:, at] >> 6).astype(np.float64).T
        np.testing.assert_array_equal(mine, (high * 2.0**26 + low + 0.5) / 2.0**52)
        assert ((mine > 0) & (mine < 1)).all()


def test_a_particle_has_its_own_whatever_runs_beside_it():
    keys = jax.random.split(jax.random.key(6), 2)
    alone, beside = StepRandomness(keys[1], 3), StepRandomness(keys, 5)
    old = StepRandomness(jax.random.key_data(keys[1]), 3)  # a key as raw words
    for position in (0, 7):
        np.testing.assert_array_equal(
            alone.uniforms(position), beside.uniforms(position).reshape(2, 5)[1, :3]
        )
        np.testing.assert_array_equal(alone.uniforms(position), old.uniforms(position))
