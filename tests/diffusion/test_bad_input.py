"""What a person may get wrong, through the public functions: each is said in words, where it went wrong."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch

import smcgen
from smcgen import diffusion
from smcgen._lazy import lazy
from smcgen.diffusion import DiffusionModel, FunctionReward, Gaussian, GaussianMixture, ddpm, steer
from smcgen.diffusion.backends import JAX
from smcgen.diffusion.backends.torch import Torch
from smcgen.errors import InvalidArgument, ModelError, RewardError

MIXTURE = GaussianMixture(np.array([[-1.0, 0.0], [1.0, 0.0]]), 0.5, ddpm(3))
TEXT = diffusion.Masked(lambda ids, t: jnp.zeros((*ids.shape, 3)), 4, mask_id=3, steps=2)
shrunk = lambda x, t: 0.5 * x
first = lambda x: x[:, 0]


def in_torch(denoiser=shrunk, **options):
    return Gaussian(denoiser, ddpm(3), (2,), "data", backend=Torch(), **options)


@pytest.mark.parametrize("kernel", [MIXTURE, in_torch()], ids=["jax", "torch"])
@pytest.mark.parametrize(
    ("reward", "said"),
    [
        (lambda x: x, r"shape \(4, 2\): expected 4 numbers"),
        (lambda x: x[:, :1], r"shape \(4, 1\)"),
        (lambda x: x.sum(), r"shape \(\)"),
        (lambda x: None, "returned NoneType"),
        (lambda x: [1.0], r"shape \(1,\)"),
        (lambda x: [None] * len(x), "object values"),
        (lambda x: [[1.0], 1.0, 1.0, 1.0], "returned list"),
        (lambda x: (1.0 for _ in x), "returned generator"),
        (lambda x: x[:, 0] + 1j, "complex64 values"),
        (lambda x: 1 / 0, "failed: ZeroDivisionError"),
    ],
)
def test_rewards(kernel, reward, said):
    with pytest.raises(RewardError, match=said):
        steer(kernel, reward, n_particles=4)


@pytest.mark.parametrize("strength", [np.inf, np.float32("nan"), jnp.asarray(jnp.inf), "much"])
def test_strength(strength, unchecked):
    for steered in (steer, lambda *a, strength: DiffusionModel(*a, strength=strength)):
        with pytest.raises(InvalidArgument, match="strength=.*a finite number"):
            steered(MIXTURE, first, strength=strength)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"guidance": np.nan}, "guidance=nan"),
        ({"guidance": "strong"}, "guidance='strong'"),
        ({"guidance": 1.0, "twist": None}, "guidance=.*without a reward and a twist"),
        ({"guidance": 1.0, "reward": None}, "guidance=.*without a reward and a twist"),
        ({"guidance": 1.0, "model": TEXT}, "guidance=.*Masked draws tokens"),
        ({"draws": 0}, "draws=0"),
        ({"candidates": 1.5}, "candidates=1.5"),
        ({"n_particles": 0}, "n_particles=0"),
        ({"reward": 3.0}, "reward=3.0"),
        ({"model": None}, "model='NoneType'.*smcgen kernel.*DDPMPipeline"),
        ({"prompt": ["a"]}, r"prompt=\['a'\]"),
    ],
)
def test_arguments(options, said, unchecked):
    given = {"model": MIXTURE, "reward": first, **options}
    with pytest.raises(InvalidArgument, match=said):
        steer(given.pop("model"), given.pop("reward"), **given)


def test_a_gradient_of_a_reward_that_has_none():
    for reward in (lambda x: np.asarray(x)[:, 0], lambda x: [float(v) for v in x[:, 0]]):
        with pytest.raises(RewardError, match="guidance needs .* JAX can differentiate"):
            steer(MIXTURE, reward, guidance=1.0, n_particles=4)
    for reward, came in (
        (lambda x: x[:, 0].detach(), "values without gradients"),
        (lambda x: x[:, 0].detach().numpy(), "ndarray"),
        (lambda x: x[:, 0].tolist(), "ndarray"),
    ):
        with pytest.raises(RewardError, match=f"torch can differentiate.*{came}"):
            steer(in_torch(), reward, guidance=1.0, n_particles=4)


def test_denoisers(unchecked):
    said = r"one that returned shape \(4, 1\).*shape \(4, 2\)"
    with pytest.raises(InvalidArgument, match=said):
        steer(in_torch(lambda x, t: x[:, :1]), first, n_particles=4)
    masked = diffusion.Masked(lambda x, t: torch.zeros(len(x), 5), 3, 4, 2, backend=Torch())
    with pytest.raises(InvalidArgument, match=r"logits of shape \(4, 3, 'V'\)"):
        steer(masked, lambda x: x.sum(1), n_particles=4)
    for shape in (2, (2, 0), "2"):
        with pytest.raises(InvalidArgument, match="shape=.*without rows"):
            Gaussian(shrunk, ddpm(3), shape, "data")
    flow = diffusion.rectified_flow(3)
    for predicts in ("eps", "score"):
        with pytest.raises(InvalidArgument, match=f"predicts='{predicts}'.*alpha_0 = 0"):
            Gaussian(shrunk, flow, (2,), predicts)


class Table:
    """A denoiser that is neither a function nor a module, but holds a tensor."""

    def __init__(self, slope):
        self.slope = slope

    def __call__(self, x, t):
        return x * self.slope

    def method(self, x, t):
        return self(x, t)


HALF, NET = torch.tensor(0.5), torch.nn.Linear(2, 2)
helped = lambda x, t: HALF * x


@pytest.mark.parametrize(
    ("denoiser", "is_torch"),
    [
        (lambda x, t: HALF * x, True),
        (lambda x, t: NET(x), True),
        (lambda x, t: helped(x, t), True),
        (lambda x, t: torch.tanh(x), True),
        (torch.compile(NET, backend="eager"), True),
        (partial(helped), True),
        (Table(HALF), True),
        (Table(HALF).method, True),
        (Table(jnp.ones(2)), False),
        (lambda x, t: 0.5 * jnp.tanh(x), False),
        (jax.jit(lambda x, t: 0.5 * x), False),
        (shrunk, False),
    ],
)
def test_whose_tensors_a_denoiser_takes(denoiser, is_torch):
    assert isinstance(Gaussian(denoiser, ddpm(3), (2,), "data").backend, Torch) == is_torch


def test_a_jax_denoiser_that_gives_torch_tensors(unchecked):
    kernel = Gaussian(lambda x, t: TORCH[0](np.array(x)), ddpm(3), (2,), "data", backend=JAX())
    with pytest.raises(InvalidArgument, match="a torch tensor.*backend=Torch"):
        smcgen.smc(DiffusionModel(kernel, by_hand), 0, 4)


TORCH, by_hand = [torch.from_numpy], lambda x: np.asarray(x)[:, 0]


def test_mixtures(unchecked):
    means = GaussianMixture([[0.0], [1.0]], 1.0, ddpm(3), weights=[0.5, 0.5]).means
    assert means.shape == (2, 1)
    with pytest.raises(InvalidArgument, match=r"means=\(2,\)"):
        GaussianMixture([0.0, 1.0], 1.0, ddpm(3))
    with pytest.raises(InvalidArgument, match=r"weights=\(3,\).*shape \(2,\)"):
        GaussianMixture([[0.0], [1.0]], 1.0, ddpm(3), weights=[0.2, 0.3, 0.5])


def test_logits_of_a_block_need_blocks():
    options = {"mask_id": 4, "steps": 2, "ahead": 0, "backend": Torch()}
    network = lambda x, t: torch.zeros(len(x), 2, 5)
    for canvas, more in (
        (4, {"block_length": 2}),
        (4, {"aligned": True}),
        ([[1, 4, 4, 4], [1, 1, 4, 4]], {"block_length": 2, "aligned": True}),
    ):
        with pytest.raises(InvalidArgument, match="ahead=0.*begin alike"):
            diffusion.Masked(network, canvas, **options, **more)


def test_steer_inside_a_jax_transformation_points_to_smc():
    with pytest.raises(ModelError, match="use smcgen.smc.DiffusionModel"):
        jax.jit(lambda key: steer(MIXTURE, first, key=key).log_evidence)(jax.random.key(0))


def test_a_model_takes_what_steer_takes():
    """A plain function, and a twist by its name; traced where JAX can, and called by hand where not."""
    model = DiffusionModel(MIXTURE, first, twist="max")
    assert model.traceable
    assert model.reward == FunctionReward(first, traceable=True)
    assert isinstance(model.twist, diffusion.Max)
    by_hand = DiffusionModel(MIXTURE, lambda x: np.asarray(x)[:, 0])
    assert not by_hand.traceable
    assert np.isfinite(smcgen.smc(by_hand, 0, 4).log_evidence)


def test_a_package_is_an_attribute_before_it_is_imported():
    """`import smcgen; smcgen.diffusion.steer(...)`, as the documents write it."""
    get, _ = lazy("smcgen", {})
    assert get("diffusion") is diffusion
    for name in ("nothing", "_lazy"):
        with pytest.raises(AttributeError, match=name):
            get(name)
