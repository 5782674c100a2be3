"""Steering pipelines: one call, many prompts, what is moved, what goes wrong."""

import jax
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, PNDMScheduler, StableDiffusionPipeline
from PIL import Image

from smcgen.diffusion import DiffusionModel, steer
from smcgen.diffusion.pipelines import from_pipeline
from smcgen.errors import InvalidArgument, RewardError
from tests.diffusion.pipelines import tiny

FEW = {"num_inference_steps": 4}


@pytest.fixture(scope="module")
def sd():
    return tiny.stable_diffusion()


def red(images):
    return images[:, 0].mean((1, 2)) - images[:, 1:].mean((1, 2, 3))


def test_one_call(sd):
    result = steer(sd, red, prompt="a cat", n_particles=4, strength=500.0, ess_threshold=1.0, **FEW)
    plain = steer(sd, prompt="a cat", n_particles=4, **FEW)
    assert result.samples.shape == (4, 3, 16, 16)
    np.testing.assert_allclose(result.rewards, red(result.samples), atol=1e-5)
    assert result.rewards.mean() > float(red(plain.samples).mean())
    assert all(isinstance(i, Image.Image) and i.size == (16, 16) for i in result.images)
    assert result.cost.nfe == 4 * 4
    assert result.cost.reward_calls == 4 * 4  # after steps 1, 2 and 3, and at the end
    assert result.prompt == "a cat"


@pytest.mark.slow
def test_many_prompts_are_steered_each_by_itself(sd):
    """Each prompt's reward sees its own prompt, and particles never cross."""
    seen = []

    def longer(images, prompts):
        seen.extend(prompts)
        return [float(len(p)) * float(i.mean()) for i, p in zip(images, prompts, strict=True)]

    both = steer(sd, longer, prompt=["a cat", "dog 7 7 7"], n_particles=2, **FEW)
    assert [r.prompt for r in both] == ["a cat", "dog 7 7 7"]
    assert seen[:4] == ["a cat", "a cat", "dog 7 7 7", "dog 7 7 7"]
    for result in both:
        size = len(result.prompt)
        np.testing.assert_allclose(
            result.rewards, size * result.samples.mean((1, 2, 3)).numpy(), rtol=1e-4
        )


def test_guidance_sees_two_rows_and_resampling_one(sd, monkeypatch):
    rows, forward = [], sd.unet.forward
    monkeypatch.setattr(
        sd.unet, "forward", lambda x, *a, **k: rows.append(len(x)) or forward(x, *a, **k)
    )
    result = steer(
        sd,
        red,
        prompt="a",
        n_particles=4,
        strength=500.0,
        ess_threshold=1.0,
        guidance_scale=4.0,
        **FEW,
    )
    assert rows == [8] * 4
    assert np.asarray(result.smc.ancestors).shape[-1] == 4


def test_microbatches_change_nothing(sd):
    options = {"prompt": ["a cat", "b"], "n_particles": 2, "strength": 50.0, **FEW}
    whole = steer(sd, red, **options)
    parts = steer(sd, red, batch_size=2, denoiser_batch_size=2, **options)
    for one, other in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.rewards, other.rewards, atol=1e-5)


def test_take_moves_everything_that_belongs_to_a_particle(sd):
    """Permute a population; what it then does is the permutation of what it would have done."""
    kernel = from_pipeline(sd, ["a cat", "dog"], eta=1.0, **FEW)
    model = DiffusionModel(kernel, None, num_problems=2)
    keys = jax.random.split(jax.random.key(0), 2)
    state, _ = model.init(keys, 2)
    order = np.array([[1, 0], [1, 1]])
    moved = model.take(state, order)
    flat = (order + np.array([[0], [2]])).ravel()
    problem = np.repeat([0, 1], 2)
    for old, new in zip(jax.tree.leaves(state), jax.tree.leaves(moved), strict=True):
        np.testing.assert_array_equal(np.asarray(new), np.asarray(old)[flat])
    with torch.no_grad():  # the moved prediction is that of the moved latents
        again = kernel.predict(0, moved.x, problem, None)
    torch.testing.assert_close(again, moved.prediction)


def test_an_exhausted_decoder_is_given_half(sd, monkeypatch):
    sizes, decode = [], sd.vae.decode

    def small_memory(latents, *args, **kwargs):
        if len(latents) > 2:
            raise torch.OutOfMemoryError
        sizes.append(len(latents))
        return decode(latents, *args, **kwargs)

    wanted = steer(sd, red, prompt="a", n_particles=4, twist=None, **FEW)
    monkeypatch.setattr(sd.vae, "decode", small_memory)
    result = steer(sd, red, prompt="a", n_particles=4, twist=None, **FEW)
    assert sizes == [2, 2]
    np.testing.assert_allclose(result.rewards, wanted.rewards, atol=1e-6)


def test_an_exhausted_network_is_given_half(sd, monkeypatch):
    sizes, forward = [], sd.unet.forward

    def small_memory(x, *args, **kwargs):
        if len(x) > 4:
            raise torch.OutOfMemoryError
        sizes.append(len(x))
        return forward(x, *args, **kwargs)

    monkeypatch.setattr(sd.unet, "forward", small_memory)
    steer(sd, red, prompt="a", n_particles=4, twist=None, num_inference_steps=1)
    assert sizes == [4, 4]


def test_one_image_too_large_is_an_error(sd, monkeypatch):
    def no_memory(*args, **kwargs):
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(sd.vae, "decode", no_memory)
    with pytest.raises(torch.OutOfMemoryError, match="no room"):
        steer(sd, red, prompt="a", n_particles=4, twist=None, **FEW)


def test_gradient_guidance_through_network_and_decoder(sd):
    guided = steer(sd, red, prompt="a", n_particles=4, strength=20.0, guidance=0.5, **FEW)
    assert np.isfinite(guided.log_evidence)
    assert not any(p.grad is not None for p in sd.unet.parameters())


def test_a_pipeline_by_folder(sd, tmp_path):
    sd.save_pretrained(tmp_path)
    result = steer(str(tmp_path), red, prompt="a cat", n_particles=4, **FEW)
    same = steer(sd, red, prompt="a cat", n_particles=4, **FEW)
    np.testing.assert_allclose(result.rewards, same.rewards, atol=1e-6)


def test_a_subclass_is_known(sd):
    class Mine(StableDiffusionPipeline):
        pass

    kernel = from_pipeline(Mine(**sd.components, requires_safety_checker=False), "a", **FEW)
    assert kernel.num_steps == 4


def test_a_solver_with_a_history_warns_and_works():
    pipe = tiny.stable_diffusion(tiny.sd_scheduler(PNDMScheduler, skip_prk_steps=True))
    with pytest.warns(UserWarning, match="PNDMScheduler.*history"):
        result = steer(pipe, red, prompt="a", n_particles=4, **FEW)
    assert np.isfinite(result.rewards).all()
    assert isinstance(pipe.scheduler, PNDMScheduler)


def test_eta_zero_is_refused_where_it_would_be_steered(sd):
    with pytest.raises(InvalidArgument, match="deterministic"):
        steer(sd, red, prompt="a", n_particles=4, eta=0.0, **FEW)
    result = steer(sd, red, prompt="a", n_particles=4, eta=0.0, twist=None, **FEW)  # best-of-n
    assert np.isfinite(result.rewards).all()


class Unknown(DiffusionPipeline):
    pass


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"model": Unknown()}, "Unknown.*FluxPipeline.*StableDiffusionXLPipeline"),
        ({"model": "/no/such/folder"}, "no/such/folder"),
        ({"prompt": None}, "prompt=None"),
        ({"prompt": []}, "prompt="),
        ({"prompt": ["a", 3]}, "prompt="),
        ({"negative_prompt": ["x", "y", "z"]}, "negative_prompt=.*3 strings.*2 prompts"),
        ({"steps": 5}, "steps=5.*num_inference_steps"),
        ({"num_images_per_prompt": 4}, "num_images_per_prompt=4.*`n_particles` says it"),
        ({"height": 17}, "height=17.*multiple of 2"),
        ({"eta": 2.0}, "eta=2.0"),
        ({"reward": "nice"}, "'nice'.*'imagereward'"),
        (
            {"reward": lambda images: images.mean((1, 2, 3)) > 0, "strength": float("inf")},
            "strength=inf",
        ),
    ],
)
def test_bad_input(sd, unchecked, arguments, said):
    given = {"model": sd, "reward": red, "prompt": ["a", "b"], "n_particles": 2, **FEW, **arguments}
    with pytest.raises(InvalidArgument, match=said):
        steer(given.pop("model"), given.pop("reward"), **given)


def test_a_pipeline_without_prompts_takes_none():
    with pytest.raises(InvalidArgument, match="DDPMPipeline takes no prompt"):
        steer(tiny.ddpm(), red, prompt="a cat", **FEW)


def test_a_reward_of_the_wrong_shape(sd):
    with pytest.raises(RewardError, match=r"shape \(4, 3\)"):
        steer(sd, lambda images: images.mean((2, 3)), prompt="a", n_particles=4, **FEW)


def test_the_safety_checker_blackens_what_is_handed_out(sd, monkeypatch):
    """As in the pipeline itself: rewards see the images, people the checked ones."""
    monkeypatch.setattr(sd, "safety_checker", object())

    def flag_first(images, device, dtype):
        images = images.clone()
        images[0] = 0
        return images, [True] + [False] * (len(images) - 1)

    monkeypatch.setattr(sd, "run_safety_checker", flag_first)
    result = steer(sd, red, prompt="a", n_particles=4, **FEW)
    assert float(result.samples[0].abs().max()) == 0
    assert abs(float(red(result.samples)[1]) - result.rewards[1]) < 1e-5
