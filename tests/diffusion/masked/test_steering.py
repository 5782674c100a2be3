"""Steered masked diffusion against enumeration: every potential and proposal has the same target, and E[Z-hat] = Z."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen.diffusion.kernels import Masked
from smcgen.diffusion.masked import Counted, Independent
from smcgen.diffusion.model import DiffusionModel
from smcgen.diffusion.proposals import Unmasking
from smcgen.diffusion.rewards import FunctionReward
from smcgen.diffusion.twists import Difference, Immediate, Max, Sum
from smcgen.diffusion.values import ManyDraws
from smcgen.text.sampling import Sampling
from tests.diffusion.masked import toy
from tests.laws import assert_law, assert_unbiased

LAMBDA, RUNS, N = 1.5, 3000, 6
REWARD = FunctionReward(toy.reward, traceable=True)


def model(twist, proposal=None, *, candidates=1, reward=REWARD, strength=LAMBDA, **options):
    kernel = Masked(toy.denoiser, toy.L, toy.MASK, toy.T, **options)
    extra = {} if proposal is None else {"proposal": proposal}
    return DiffusionModel(kernel, reward, strength, twist, candidates=candidates, **extra)


def counted_steps(sharpness):
    sure = np.exp(sharpness * np.log(toy.token_law().max(-1)))
    return [toy.matrix(toy.counted(1, sure))] * toy.T


MDLM = toy.exact(toy.mdlm_steps(), LAMBDA)
CASES = {
    "none": (model(None), MDLM),
    "difference": (model(Difference()), MDLM),
    "max": (model(Max()), MDLM),
    "sum": (model(Sum()), MDLM),
    "immediate": (model(Immediate()), MDLM),
    "many-draws": (model(Difference(ManyDraws(4))), MDLM),
    "confident proposal": (
        model(Difference(), Unmasking(Independent(1.2, "entropy"), Sampling(1.4))),
        MDLM,
    ),
    "candidates": (model(Difference(ManyDraws(2)), candidates=3), MDLM),
    "counted, sharper proposal": (
        model(Difference(), Unmasking(Counted(1.5)), order=Counted(0.5)),
        toy.exact(counted_steps(0.5), LAMBDA),
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_target_is_the_enumerated_one(case):
    steered, (z, phi, _) = CASES[case]

    @jax.jit
    @jax.vmap
    def run(key):
        result = smcgen.smc(steered, key, N, keep="summary", ess_threshold=1.0)
        at = result.particles @ jnp.asarray(toy.PLACE)
        z_hat = jnp.exp(result.log_evidence)
        return z_hat, z_hat * (result.weights @ (jnp.asarray(toy.PHI)[at] - phi))

    z_hat, centred = run(jax.random.split(jax.random.key(1), RUNS))
    assert_unbiased(z_hat, z, f"{case}: evidence")
    assert_unbiased(centred, 0.0, f"{case}: expectation")
