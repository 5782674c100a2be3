"""How schedulers are read: levels, notes, refusals."""

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    HeunDiscreteScheduler,
    LCMScheduler,
    LMSDiscreteScheduler,
    PNDMScheduler,
    UniPCMultistepScheduler,
)

from smcgen.diffusion.pipelines._scheduler import spaced
from smcgen.errors import InvalidArgument
from tests.diffusion.pipelines import tiny


class Pipe:
    """All of a pipeline that is asked here."""

    def __init__(self, scheduler):
        self.scheduler = scheduler


def read(scheduler, steps=10, **options):
    return spaced(Pipe(scheduler), steps, "cpu", **options)


def test_the_scheduler_is_left_as_it_is():
    scheduler = tiny.sd_scheduler()
    before = scheduler.timesteps.clone()
    read(scheduler)
    assert torch.equal(scheduler.timesteps, before)
    assert scheduler.num_inference_steps is None


@pytest.mark.parametrize(
    "solver",
    [
        DPMSolverMultistepScheduler(**tiny.SD_BETAS),
        DPMSolverMultistepScheduler(**tiny.SD_BETAS, use_karras_sigmas=True),
        UniPCMultistepScheduler(**tiny.SD_BETAS),
        DEISMultistepScheduler(**tiny.SD_BETAS),
        PNDMScheduler(**tiny.SD_BETAS, steps_offset=1, skip_prk_steps=True),
        LMSDiscreteScheduler(**tiny.SD_BETAS),
        HeunDiscreteScheduler(**tiny.SD_BETAS),
        UniPCMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
        ),
    ],
    ids=lambda s: type(s).__name__,
)
def test_a_solver_with_a_history_lends_its_levels(solver):
    spacing = read(solver)
    assert "history" in spacing.note
    assert type(solver).__name__ in spacing.note
    assert len(spacing.alpha) == len(spacing.times) == 10
    ratio = np.append(
        spacing.sigma / spacing.alpha, spacing.next_sigma[-1] / spacing.next_alpha[-1]
    )
    assert (np.diff(ratio) < 0).all()
    np.testing.assert_allclose(spacing.sigma[1:], spacing.next_sigma[:-1])
    if not solver.config.get("use_flow_sigmas") and spacing.input_scale is None:
        np.testing.assert_allclose(spacing.alpha**2 + spacing.sigma**2, 1, atol=1e-6)


def test_pndm_is_read_as_ddim():
    """Stable Diffusion 1.5's own scheduler: the same levels as the DDIM scheduler made from it."""
    pndm = PNDMScheduler(**tiny.SD_BETAS, steps_offset=1, skip_prk_steps=True)
    ddim = DDIMScheduler(**tiny.SD_BETAS, steps_offset=1, set_alpha_to_one=False, clip_sample=False)
    one, other = read(pndm), read(ddim)
    assert torch.equal(one.times, other.times)
    np.testing.assert_array_equal(one.alpha, other.alpha)
    np.testing.assert_array_equal(one.next_alpha, other.next_alpha)
    assert one.clip is None  # in latent space


def test_defaults_of_the_solver_are_kept():
    """Heun's betas are not Euler's."""
    spacing, heun = read(HeunDiscreteScheduler()), HeunDiscreteScheduler()
    heun.set_timesteps(10)
    np.testing.assert_allclose(spacing.sigma[0], float(heun.sigmas.max()), rtol=1e-5)


def test_own_noise():
    assert read(DDPMScheduler()).eta == 1
    assert read(DDPMScheduler()).noise is None
    assert read(DDIMScheduler()).eta is None
    assert read(EulerDiscreteScheduler()).eta == 0
    large = read(DDPMScheduler(variance_type="fixed_large"))
    np.testing.assert_allclose(
        large.noise[:-1] ** 2, 1 - (large.alpha / large.next_alpha)[:-1] ** 2
    )
    assert large.noise[-1] == 0


def test_stochastic_flow_sampling_is_replaced_with_a_note():
    spacing = read(FlowMatchEulerDiscreteScheduler(stochastic_sampling=True))
    assert "marginals" in spacing.note


@pytest.mark.parametrize(
    ("scheduler", "said"),
    [
        (LCMScheduler(), "LCMScheduler.*DDIMScheduler"),
        (DDPMScheduler(variance_type="learned_range"), "learned_range"),
        (FlowMatchEulerDiscreteScheduler(invert_sigmas=True), "invert_sigmas"),
        (DDIMScheduler(rescale_betas_zero_snr=True, timestep_spacing="trailing"), "v_prediction"),
    ],
    ids=["lcm", "learned", "inverted", "zero-snr"],
)
def test_what_our_kernel_does_not_have_is_refused(scheduler, said):
    with pytest.raises(InvalidArgument, match=said):
        read(scheduler)


def test_steps_that_the_scheduler_refuses():
    with pytest.raises(InvalidArgument, match="num_inference_steps=2000.*DDIMScheduler"):
        read(DDIMScheduler(), 2000)
    with pytest.raises(InvalidArgument, match="num_inference_steps=0"):
        read(DDIMScheduler(), 0)
    with pytest.raises(InvalidArgument, match="timesteps=.*DDIMScheduler"):
        read(DDIMScheduler(), timesteps=[900, 500, 100])


def test_timesteps_of_ones_own():
    spacing = read(DDPMScheduler(), timesteps=[900, 500, 100])
    assert spacing.times.tolist() == [900, 500, 100]
    assert spacing.next_alpha[-1] == 1
