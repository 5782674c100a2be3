"""Rewards that people write: lists, wrong shapes, NaN, exceptions, memory that runs out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

from smcgen import diffusion
from smcgen.core.status import SMCError, Status
from smcgen.diffusion.backends.torch import Torch
from smcgen.diffusion.rewards.function import FunctionReward
from smcgen.errors import InvalidArgument, RewardError

KERNEL = diffusion.Gaussian(
    lambda x, t: 0.5 * x, diffusion.rectified_flow(4), (2,), predicts="data", backend=Torch()
)
as_it_is = lambda data: data


def steered(reward, **options):
    return diffusion.steer(KERNEL, reward, n_particles=4, **options)


@pytest.mark.slow
def test_every_kind_of_numbers_is_the_same():
    kinds = [
        lambda x: x[:, 0],
        lambda x: x[:, 0].numpy(),
        lambda x: x[:, 0].tolist(),
        lambda x: list(x[:, 0]),
    ]
    results = [steered(kind) for kind in kinds]
    for result in results:
        np.testing.assert_array_equal(result.rewards, results[0].rewards)
        assert result.log_evidence == results[0].log_evidence


@pytest.mark.parametrize(
    ("reward", "match"),
    [
        (lambda x: x, r"returned shape \(4, 2\): expected 4 numbers"),
        (lambda x: 1.0, "returned float: expected 4 numbers"),
        (lambda x: ["a"] * len(x), "returned <U1 values"),
        (lambda x: x[:, 9], "failed: IndexError"),
    ],
)
def test_bad_rewards_say_so_and_lose_nothing(reward, match):
    calls = []

    def late(x):
        calls.append(len(x))
        return reward(x) if len(calls) > 1 else x[:, 0]

    with pytest.raises(RewardError, match=match) as caught:
        steered(late)
    assert caught.value.result.smc.num_steps == 1  # the run before the step that failed


def test_nan_names_step_and_particle():
    def reward(x):
        scores = x[:, 0].clone()
        scores[2] = float("nan")
        return scores

    with pytest.raises(SMCError, match="NaN or \\+inf at step 1, for particle number 2") as caught:
        steered(reward)
    assert caught.value.result.status == Status.NON_FINITE_POTENTIAL
    assert caught.value.result.weights.sum() == 0


def test_minus_infinity_in_the_middle_means_not_yet():
    """Only finished samples are accepted: before the end the twist must not exclude anything."""
    calls = []

    def verifier(x):
        calls.append(1)
        return np.where(len(calls) < KERNEL.num_steps - 1, -np.inf, x[:, 0].numpy())

    result = steered(verifier)
    assert np.isfinite(result.log_evidence)
    assert np.all(result.weights > 0)


@pytest.mark.parametrize("strength", [np.inf, np.nan])
def test_strength_is_finite(strength):
    with pytest.raises(InvalidArgument, match="expected a finite number"):
        steered(lambda x: x[:, 0], strength=strength)


def test_microbatches_and_memory():
    seen = []

    def decode(x):
        seen.append(len(x))
        if len(x) > 3:
            raise torch.OutOfMemoryError("no memory")
        return x * 2

    reward = FunctionReward(lambda x: x.sum(1))
    data = torch.arange(20.0).reshape(10, 2)
    scores = reward(data, np.zeros(10, int), decode)
    torch.testing.assert_close(scores, data.sum(1) * 2)
    assert seen[:3] == [10, 5, 3]  # halved until it fits, and not tried larger again
    assert max(seen[2:]) == 3
    with pytest.raises(torch.OutOfMemoryError):
        FunctionReward(lambda x: x, batch_size=1)(data, np.zeros(10, int), lambda x: decode(data))


def test_half_precision_and_prompts():
    got = []

    def reward(x, prompts):
        got.append((x.dtype, list(prompts)))
        return x[:, 0]

    part = FunctionReward(reward, ("a", "b"), batch_size=3, dtype="bfloat16")
    part(torch.zeros(4, 2), np.array([0, 0, 1, 1]), as_it_is)
    assert got == [(torch.bfloat16, ["a", "a", "b"]), (torch.bfloat16, ["b"])]


def test_a_traceable_reward_in_parts():
    """Inside a jitted run, with rows left over, in half precision."""
    reward = FunctionReward(lambda x: x.sum(1), batch_size=3, dtype="bfloat16", traceable=True)
    data = jnp.arange(16.0).reshape(8, 2)
    scores = jax.jit(lambda x: reward(x, np.zeros(8, int), lambda x: x + 1))(data)
    np.testing.assert_array_equal(scores, data.sum(1) + 2)
    assert scores.dtype == jnp.bfloat16


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("no memory"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 4096 bytes"),
        MemoryError("Unable to allocate 8. GiB for an array"),
    ],
    ids=["torch", "torch on a CPU", "JAX", "NumPy"],
)
def test_memory_runs_out_in_many_words(error):
    """In the reward itself, where any other failure is the reward's own fault."""

    def fn(x):
        if len(x) > 2:
            raise error
        return x.sum(1)

    scores = FunctionReward(fn)(torch.ones(5, 2), np.zeros(5, int), as_it_is)
    assert scores.tolist() == [2.0] * 5


def test_a_reward_that_writes_into_its_samples_leaves_the_particles_as_they_are():
    data = torch.ones(4, 2)
    scores = FunctionReward(lambda x: x.mul_(3).sum(1))(data, np.zeros(4, int), as_it_is)
    assert scores.tolist() == [6.0] * 4
    assert data.tolist() == [[1.0, 1.0]] * 4
