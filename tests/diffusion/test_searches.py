"""Searches: nothing found is lost, pivots are kept, costs are counted, JAX and torch agree."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from smcgen import diffusion
from smcgen.core.status import SMCError
from smcgen.diffusion.backends.torch import Torch
from smcgen.diffusion.searches.base import Found
from smcgen.diffusion.searches.noise import NoiseSearch
from smcgen.errors import InvalidArgument, UnknownName

T = 5
SCHEDULE = diffusion.rectified_flow(T)
METHODS = ["random", "zero-order", "paths"]
denoise = lambda x, s: 0.5 + (1 - s) / ((1 - s) ** 2 + s * s) * (x - (1 - s) * 0.5)
score = lambda x: -0.5 * (x[:, 0] - 2) ** 2


def kernel(torch=True, **options):
    backend = {"backend": Torch()} if torch else {}
    return diffusion.Gaussian(denoise, SCHEDULE, (2,), "data", **options, **backend)


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_best_is_handed_out_and_work_counted(method):
    found = diffusion.search(kernel(), score, method=method, n=4, rounds=3)
    rewards = found.rewards
    assert rewards.shape == (3, 4)
    assert found.reward == (rewards[-1].max() if method == "paths" else rewards.max())
    assert found.reward == pytest.approx(float(score(found.data)[0]), abs=1e-6)
    assert found.best_so_far[-1] == rewards.max()
    if (
        method == "paths"
    ):  # two steps to the start, then one back and two on, four ways, three times
        wide = 4 * 4
        nfe = 4 * 3 + 3 * wide * (1 + 2) - wide
        assert (found.cost.nfe, found.cost.reward_calls) == (nfe, 3 * wide)
    else:
        assert (found.cost.nfe, found.cost.reward_calls) == (3 * 4 * T, 12)


def test_zero_order_stays_around_the_best():
    """Without noise in the steps and with tiny moves every later candidate is as good as the best so far."""
    found = diffusion.search(kernel(eta=0.0), score, n=4, rounds=4, size=1e-3)
    best = found.best_so_far
    np.testing.assert_allclose(found.rewards[1:], np.repeat(best[:-1, None], 4, 1), atol=0.02)
    assert found.rewards[0].std() > 0.1


def test_a_pivot_is_kept_when_a_round_fails():
    reward = diffusion.FunctionReward(score)
    model = diffusion.DiffusionModel(kernel(eta=0.0), reward, twist=None)
    search, key = NoiseSearch(model, rounds=2, size=0.5), jax.random.key(0)
    state, _ = search.init(key, 4)
    for reward, kept in ((1e9, True), (-1e9, False)):
        before = replace(state, found=Found(state.found.data, np.array([reward])))
        after, _ = search.step(jax.random.key(1), 1, before)
        assert bool((after.pivot == before.pivot).all()) == kept
        assert bool((after.found.data == before.found.data).all()) == kept
        assert after.found.reward[0] == (reward if kept else after.rewards.max())


@pytest.mark.slow
def test_prompts_are_searched_each_by_itself():
    about = lambda x, prompts: [-abs(float(v) - p) for v, p in zip(x[:, 0], prompts, strict=True)]
    both = diffusion.search(kernel(prompts=(-1.0, 3.0)), about, n=4, rounds=3)
    for result in both:
        assert result.reward == result.rewards.max()
        assert result.reward == pytest.approx(
            -abs(float(result.data[0, 0]) - result.prompt), abs=1e-6
        )


@pytest.mark.slow
@pytest.mark.parametrize("method", ["zero-order", "paths"])
def test_a_jitted_search_finds_the_same(method):
    jaxed, torched = (
        diffusion.search(kernel(torch), score, method=method, n=4, rounds=3)
        for torch in (False, True)
    )
    np.testing.assert_allclose(jaxed.rewards, torched.rewards, atol=1e-4)
    np.testing.assert_allclose(jaxed.data, torched.data, atol=1e-4)
    assert (jaxed.cost.nfe, jaxed.cost.reward_calls) == (
        torched.cost.nfe,
        torched.cost.reward_calls,
    )


@pytest.mark.parametrize("method", METHODS)
def test_nan_stops_a_search(method):
    with pytest.raises(SMCError, match="NaN or \\+inf"):
        diffusion.search(kernel(), lambda x: x[:, 0] * float("nan"), method=method, n=4, rounds=3)


def test_bad_arguments(unchecked):
    for options, said in [
        ({"rounds": 0}, "rounds=0"),
        ({"size": 2.0}, "size=2.0"),
        ({"method": "paths", "rounds": T + 1}, "steps that there are"),
        ({"reward": None}, "what is searched for"),
    ]:
        with pytest.raises(InvalidArgument, match=said):
            diffusion.search(kernel(), **{"reward": score, **options})
    with pytest.raises(UnknownName, match="'zero-order'"):
        diffusion.search(kernel(), score, method="annealing")
    mixture = diffusion.GaussianMixture(np.zeros((1, 2)), 1.0, SCHEDULE)
    with pytest.raises(InvalidArgument, match="GaussianMixture, which has no perturb"):
        diffusion.search(mixture, score)
