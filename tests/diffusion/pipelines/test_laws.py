"""The law through a real pipeline: a UNet that denoises a Gaussian exactly, and a reward with a known evidence.

With data N(m, s^2) in each pixel the network is linear in x, so each step is a linear Gaussian, x_T is Gaussian with
moments from a recursion, and with r = mean of the pixels over [0, 1], log Z = strength E[r] + strength^2 Var[r] / 2.
"""

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import DDIMPipeline, DDIMScheduler
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin

import smcgen
from smcgen.diffusion import DiffusionModel
from smcgen.diffusion.pipelines import from_pipeline
from smcgen.diffusion.rewards.resolve import as_reward
from smcgen.diffusion.twists.resolve import as_twist
from tests.laws import assert_unbiased

MEAN, STD, SIDE, STEPS, RUNS, N, STRENGTH = 0.2, 0.1, 2, 6, 600, 4, 60.0


class ExactUNet(ModelMixin, ConfigMixin):
    """`E[noise | x_t]` for data N(MEAN, STD^2), as a UNet gives it."""

    @register_to_config
    def __init__(self, sample_size: int = SIDE, in_channels: int = 1):
        super().__init__()
        self.nothing = torch.nn.Parameter(torch.zeros(1))
        self.bar = DDIMScheduler().alphas_cumprod.double()

    def forward(self, x, time):
        alpha, sigma2 = self.bar[time].sqrt().float(), (1 - self.bar[time]).float()
        noise = sigma2.sqrt() * (x - alpha * MEAN) / (alpha**2 * STD**2 + sigma2)
        return type("Output", (), {"sample": noise})


def moments(kernel):
    """Mean and variance of a pixel of x_T."""
    own = kernel.spacing
    mean, variance = 0.0, 1.0
    for t in range(STEPS):
        a, s, a1, s1 = own.alpha[t], own.sigma[t], own.next_alpha[t], own.next_sigma[t]
        gain = a * STD**2 / (a**2 * STD**2 + s**2)  # data = MEAN + gain (x - a MEAN)
        tau2 = s1**2 * (1 - (a * s1 / (a1 * s)) ** 2)
        of_noise = np.sqrt(s1**2 - tau2) / s
        of_data = a1 - of_noise * a
        mean = of_noise * mean + of_data * (MEAN + gain * (mean - a * MEAN))
        variance = (of_noise + of_data * gain) ** 2 * variance + tau2
    return mean, variance


@pytest.mark.slow
@pytest.mark.parametrize("twist", ["difference", "max", None])
def test_evidence_and_mean(twist):
    pipe = DDIMPipeline(ExactUNet(), DDIMScheduler(clip_sample=False))
    kernel = from_pipeline(pipe, eta=1.0, num_inference_steps=STEPS)
    # many runs as problems of one: a pipeline without prompts has but one
    kernel = dataclasses.replace(kernel, prompts=("",) * RUNS, single=False)
    reward = as_reward(lambda images: images.mean((1, 2, 3)), kernel)
    model = DiffusionModel(kernel, reward, STRENGTH, as_twist(twist, None), num_problems=RUNS)
    run = smcgen.smc(model, 7, N, ess_threshold=1.0)
    mean, variance = moments(kernel)
    # a picture is x / 2 + 1/2, and r the mean of SIDE^2 independent pixels
    mean_r, var_r = mean / 2 + 0.5, variance / 4 / SIDE**2
    ratio = np.exp(
        np.asarray(run.log_evidence, np.float64) - STRENGTH * mean_r - STRENGTH**2 * var_r / 2
    )
    assert_unbiased(ratio, 1.0, "evidence")
    tilted = mean_r + STRENGTH * var_r
    estimate = np.sum(np.asarray(run.weights) * np.asarray(run.particles.reward), -1)
    assert_unbiased(ratio * (estimate - tilted), 0.0, "mean of the reward")
