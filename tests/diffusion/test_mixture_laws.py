"""Whatever twist, value, proposal and number of candidates: E[Z-hat] = Z and E[Z-hat (phi-hat - pi(phi))] = 0.

The reverse process is exact, so the answers are integrals (`exact.py`): log Z -1.4397 and -2.9678 on grid and ring,
and for N(0, 1) with lambda r = 4 tanh(x - 1) a posterior mean of 1.936. Resampling is adaptive, the case in which
dropping the weights of a resampling that did not happen shows (1.824 for "difference").
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import smcgen
from smcgen import diffusion
from smcgen.learn import fit_twist
from tests.diffusion.exact import TOYS, TWISTS, AnyTwist, quick_jit, toy_model
from tests.laws import assert_unbiased

T, N, STEPS = 8, 16, (4, 5, 6, 7, 8)
SCHEDULE = diffusion.ddpm(T)
RAMP = np.linspace(0, 1, T + 1)[:-1] ** 2


class Case(NamedTuple):
    """A toy, a twist, the strength of the last look relative to the end, the scale of guidance."""

    toy: str
    twist: str
    last: float
    guidance: float = 0.0

    def __str__(self):
        return f"{self.toy}, {self.twist}, {self.last}, guidance {self.guidance}"


# "immediate", "max" and "sum" multiply one factor a look: with full strength their variance has no end
CASES = [
    *(Case(toy, "difference", 1.0, g) for toy in TOYS for g in (0.0, 1.0)),
    *(Case(toy, "immediate", 0.3, 0.5) for toy in TOYS),
    *(Case(toy, "max", 0.3) for toy in TOYS),
    *(Case(toy, "sum", 0.1) for toy in TOYS),
]


def estimates(cases, runs, value, seed=0, **options):
    """log Z-hat, and means of reward, x and y, of many runs of each case: (cases, runs), (cases, runs, 3)."""

    def one(key, arrays, which, ladder, scale):
        twist = AnyTwist(which, value)
        model = toy_model(arrays, SCHEDULE, twist, ladder, scale, steps=STEPS, **options)
        result = smcgen.smc(model, key, N, ess_threshold=0.7, keep="summary")
        phi = lambda p: jnp.concatenate([p.reward[:, None], p.data], axis=1)
        return result.log_evidence, result.expectation(phi), jnp.sum(result.resampled)

    @quick_jit
    def all_of(keys, *data):
        return jax.vmap(lambda ks, *d: jax.vmap(lambda k: one(k, *d))(ks))(keys, *data)

    stacked = jax.tree.map(lambda *x: jnp.stack(x), *(TOYS[c.toy].arrays() for c in cases))
    which = jnp.asarray([TWISTS.index(c.twist) for c in cases])
    ladders = jnp.asarray([np.append(c.last * RAMP, 1.0) for c in cases])
    scales = jnp.asarray([c.guidance for c in cases])
    keys = jax.random.split(jax.random.key(seed), (len(cases), runs))
    return tuple(np.asarray(x, np.float64) for x in all_of(keys, stacked, which, ladders, scales))


def check(cases, log_z, means, resampled):
    for i, case in enumerate(cases):
        exact_log_z, exact = TOYS[case.toy].exact()
        ratio = np.exp(log_z[i] - exact_log_z)
        assert_unbiased(ratio, 1.0, f"Z of {case}")
        for j, name in enumerate(("reward", "x", "y")):
            assert_unbiased(ratio * (means[i, :, j] - exact[j]), 0.0, f"{name} of {case}")
    assert np.mean(resampled) > 0.2  # the runs do what they are to test


@pytest.mark.slow
def test_every_twist_and_guidance_have_the_same_target():
    check(CASES, *estimates(CASES, 300, diffusion.AtPrediction()))


@pytest.mark.slow
def test_many_draws_and_candidates_have_it_too():
    cases = [c for c in CASES if c.twist in ("difference", "max")]
    check(cases, *estimates(cases, 150, diffusion.ManyDraws(3), candidates=2))


@pytest.mark.slow
def test_a_learned_value_has_it_too():
    """A flax network fitted to runs of the base model, in place of all calls of the reward before the end."""

    class Net(linen.Module):
        @linen.compact
        def __call__(self, x):
            return linen.Dense(1)(linen.tanh(linen.Dense(16)(x)))

    def model(twist):
        return toy_model(TOYS["grid"].arrays(), SCHEDULE, twist, steps=STEPS)

    records, worth = diffusion.experience(model(diffusion.Difference()), 3, 400)
    fitted = fit_twist(records.astype(np.float32), worth, Net(), steps=300, key=1)
    learned = diffusion.Difference(diffusion.Learned(fitted))
    exact = TOYS["grid"].exact()[0]
    one = lambda key, m=model(learned): smcgen.smc(m, key, N, keep="summary").log_evidence
    keys = jax.random.split(jax.random.key(5), 400)
    log_z = np.asarray(quick_jit(jax.vmap(one))(keys), np.float64)
    assert_unbiased(np.exp(log_z - exact), 1.0, "learned")


@pytest.mark.parametrize(
    ("toy", "log_z", "reward"), [("grid", -1.4397, -0.2907), ("ring", -2.9678, -1.34)]
)
def test_the_integrals_are_those_published(toy, log_z, reward):
    found, means = TOYS[toy].exact()
    np.testing.assert_allclose([found, means[0]], [log_z, reward], atol=5e-5)
    np.testing.assert_allclose(TOYS["tanh"].exact()[1][1], 1.936, atol=5e-4)
