"""Without a reward, with the same noise and eta, our loop makes what the pipeline itself makes."""

import numpy as np
import pytest
from diffusers import DDPMScheduler, EulerAncestralDiscreteScheduler, EulerDiscreteScheduler

from tests.diffusion.pipelines import tiny
from tests.diffusion.pipelines.parity import ours, theirs

STEPS, N = 4, 2  # rows as in the other tests, so that programs are compiled once
PROMPTS = ["a cat", "dog 7"]


def assert_same(monkeypatch, pipe, prompts, eta, theirs_eta, options, negative=None):
    more = {} if negative is None else {"negative_prompt": negative}
    images, first, steps = ours(
        pipe, prompts, N, eta=eta, num_inference_steps=STEPS, **options, **more
    )
    if prompts is not None:  # every row of the pipeline is a prompt of its own
        options = {**options, "prompt": [p for p in prompts for _ in range(N)]}
        if negative is not None:  # a string is ours to repeat, the pipeline wants a list
            each = [negative] * len(prompts) if isinstance(negative, str) else negative
            more = {"negative_prompt": [p for p in each for _ in range(N)]}
    if theirs_eta is not None:
        options = {**options, "eta": theirs_eta}
    wanted = theirs(monkeypatch, pipe, first, steps, num_inference_steps=STEPS, **options, **more)
    assert wanted.std() > 0.05  # pictures, not a grey
    assert np.abs(wanted[0] - wanted[-1]).max() > 0.1  # that differ
    np.testing.assert_allclose(images, wanted, atol=2e-5)


@pytest.mark.parametrize(
    ("scheduler", "eta"),
    [
        ({}, 0.0),
        ({}, 1.0),
        ({"timestep_spacing": "trailing", "set_alpha_to_one": False}, 0.5),
        ({"timestep_spacing": "linspace", "thresholding": True}, 1.0),
        ({"prediction_type": "sample", "clip_sample": False}, 1.0),
    ],
)
def test_ddim(monkeypatch, scheduler, eta):
    assert_same(monkeypatch, tiny.ddim(**scheduler), None, eta, eta, {})


@pytest.mark.parametrize("variance", ["fixed_small", "fixed_large"])
def test_ddpm(monkeypatch, variance):
    assert_same(monkeypatch, tiny.ddpm(variance_type=variance), None, None, None, {})


SD_2_1 = {
    "prediction_type": "v_prediction",
    "rescale_betas_zero_snr": True,
    "timestep_spacing": "trailing",
}


@pytest.mark.parametrize(
    ("scheduler", "eta", "theirs_eta", "options", "negative"),
    [
        (None, 0.0, 0.0, {"guidance_scale": 1.0}, None),
        (None, 1.0, 1.0, {"guidance_scale": 5.0}, ["ugly", "bad"]),
        (
            tiny.sd_scheduler(**SD_2_1),
            1.0,
            1.0,
            {"guidance_scale": 5.0, "guidance_rescale": 0.7},
            None,
        ),
        (tiny.sd_scheduler(DDPMScheduler, clip_sample=False), None, None, {}, "bad"),
        (tiny.sd_scheduler(EulerAncestralDiscreteScheduler), None, None, {}, None),
        (
            tiny.sd_scheduler(EulerDiscreteScheduler, prediction_type="v_prediction"),
            0.0,
            None,
            {"guidance_scale": 5.0},
            None,
        ),
    ],
    ids=["ddim-0", "ddim-1-guided", "v-zero-snr", "ddpm", "euler-ancestral", "euler-v"],
)
def test_stable_diffusion(monkeypatch, scheduler, eta, theirs_eta, options, negative):
    pipe = tiny.stable_diffusion(scheduler)
    assert_same(monkeypatch, pipe, PROMPTS, eta, theirs_eta, options, negative)


@pytest.mark.parametrize(
    ("scheduler", "eta", "theirs_eta", "options"),
    [
        (None, 1.0, 1.0, {"guidance_rescale": 0.5, "original_size": (64, 32)}),
        (
            tiny.sd_scheduler(EulerDiscreteScheduler, use_karras_sigmas=True),
            0.0,
            None,
            {"crops_coords_top_left": (4, 8), "clip_skip": 0},
        ),
    ],
    ids=["ddim-1", "euler-karras"],
)
def test_stable_diffusion_xl(monkeypatch, scheduler, eta, theirs_eta, options):
    pipe = tiny.stable_diffusion_xl(scheduler)
    assert_same(monkeypatch, pipe, PROMPTS, eta, theirs_eta, options, ["ugly", "bad"])


@pytest.mark.parametrize(
    ("scheduler", "options", "negative"),
    [
        ({}, {"guidance_scale": 5.0}, ["ugly", "bad"]),
        ({"use_dynamic_shifting": True}, {"guidance_scale": 1.0}, None),
    ],
    ids=["guided", "dynamic-shift"],
)
def test_stable_diffusion_3(monkeypatch, scheduler, options, negative):
    options = {**options, "max_sequence_length": 16}
    pipe = tiny.stable_diffusion_3(**scheduler)
    assert_same(monkeypatch, pipe, PROMPTS, 0.0, None, options, negative)


@pytest.mark.parametrize(
    ("guidance_embeds", "options", "negative"),
    [(True, {"guidance_scale": 2.0}, None), (False, {"true_cfg_scale": 3.0}, "bad")],
    ids=["dev", "true-guidance"],
)
def test_flux(monkeypatch, guidance_embeds, options, negative):
    options = {**options, "max_sequence_length": 16, "height": 16, "width": 24}
    pipe = tiny.flux(guidance_embeds)
    assert_same(monkeypatch, pipe, PROMPTS, 0.0, None, options, negative)
