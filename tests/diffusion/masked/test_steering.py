"""Steered masked diffusion against enumeration: every potential and proposal has the same target, and E[Z-hat] = Z.

Many runs are one run with a problem for each, in torch; JAX compiles two of the models.
"""

from dataclasses import replace

import jax
import numpy as np
import pytest

import smcgen
from smcgen.diffusion import (
    Difference,
    DiffusionModel,
    FunctionReward,
    Immediate,
    ManyDraws,
    Max,
    Sum,
)
from smcgen.diffusion.kernels import Masked
from smcgen.diffusion.masked import Counted, Independent
from smcgen.diffusion.masked.refresh import Refreshed
from smcgen.diffusion.proposals import Unmasking
from smcgen.text.sampling import Sampling
from tests.diffusion.masked import toy
from tests.laws import assert_unbiased

torch = pytest.importorskip("torch")
from smcgen.diffusion.backends.torch import Torch  # noqa: E402

LAMBDA, RUNS, N = 1.5, 4000, 6


def reward(x):
    return torch.from_numpy(toy.REWARD)[x @ torch.from_numpy(toy.PLACE)]


def network(x, time):
    return torch.from_numpy(toy.LOGITS)[x @ torch.from_numpy(toy.PLACE)]


def steered(
    twist, *, of=FunctionReward(reward), strength=LAMBDA, candidates=1, runs=RUNS, **options
):
    proposal = {"proposal": options.pop("proposal")} if "proposal" in options else {}
    canvas = np.full((runs, toy.L), toy.MASK)
    kernel = Masked(network, canvas, toy.MASK, toy.T, backend=Torch(), **options)
    return DiffusionModel(
        kernel, of, strength, twist, candidates=candidates, num_problems=runs, **proposal
    )


def counted_steps(sharpness):
    weights = np.exp(sharpness * np.log(toy.token_law().max(-1)))
    return [toy.matrix(toy.counted(1, weights))] * toy.T


CONFIDENT = Unmasking(Independent(1.2, "entropy"), Sampling(1.4))
CASES = {
    "none": lambda: steered(None),
    "difference": lambda: steered(Difference()),
    "max": lambda: steered(Max()),
    "sum": lambda: steered(Sum()),
    "immediate": lambda: steered(Immediate()),
    "many-draws": lambda: steered(Difference(ManyDraws(4))),
    "confident": lambda: steered(Difference(), proposal=CONFIDENT),
    "candidates": lambda: steered(Difference(ManyDraws(2)), candidates=3),
    "counted": lambda: steered(Difference(), proposal=Unmasking(Counted(1.5)), order=Counted(0.5)),
    "refreshed": lambda: Refreshed(steered(Difference(ManyDraws(2))), back=2),
}


@pytest.fixture(scope="module")
def exact():
    mdlm = toy.exact(toy.mdlm_steps(), LAMBDA)
    return {"counted": toy.exact(counted_steps(0.5), LAMBDA)} | dict.fromkeys(
        set(CASES) - {"counted"}, mdlm
    )


def check(case, log_z, weights, data, exact):
    z, phi, _ = exact[case]
    z_hat = np.exp(np.asarray(log_z, np.float64))
    centred = z_hat * (np.asarray(weights) * (toy.PHI[toy.code(data)] - phi)).sum(-1)
    assert_unbiased(z_hat, z, f"{case}: evidence")
    assert_unbiased(centred, 0.0, f"{case}: expectation")


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_the_target_is_the_enumerated_one(case, exact):
    run = smcgen.smc(CASES[case](), 1, N, ess_threshold=1.0)
    check(case, run.log_evidence, run.weights, run.particles.data, exact)


@pytest.mark.slow
@pytest.mark.parametrize("case", ["confident", "refreshed"])
def test_a_jitted_run_has_the_same_target(case, exact):
    """The same models in JAX: all runs in one program."""
    model = CASES[case]()
    inner = model.model if case == "refreshed" else model
    kernel = Masked(toy.denoiser, toy.L, toy.MASK, toy.T)
    traced = FunctionReward(toy.reward, traceable=True)
    inner = replace(inner, kernel=kernel, reward=traced, num_problems=None)
    model = replace(model, model=inner) if case == "refreshed" else inner

    def run(key):
        result = smcgen.smc(model, key, N, keep="summary", ess_threshold=1.0)
        return result.log_evidence, result.weights, result.particles.data

    keys = jax.random.split(jax.random.key(1), RUNS)
    quick = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    compiled = jax.jit(jax.vmap(run)).lower(keys).compile(compiler_options=quick)
    check(case, *compiled(keys), exact)
