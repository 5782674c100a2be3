"""`DiffusionModel`: one `take` for everything, both frameworks, where it resamples and what it costs."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen import diffusion
from smcgen.diffusion.backends.torch import Torch
from smcgen.diffusion.tempering import _Rising
from smcgen.errors import InvalidArgument
from smcgen.resampling import AtSteps, Every

T = 6
SCHEDULE = diffusion.rectified_flow(T)
denoise = lambda x, s: 0.5 + (1 - s) / ((1 - s) ** 2 + s * s) * (x - (1 - s) * 0.5)
score = lambda x: -0.5 * (x[:, 0] - 2) ** 2


def model(torch=False, eta=1.0, reward=score, **options):
    backend = {"backend": Torch()} if torch else {}
    kernel = diffusion.Gaussian(denoise, SCHEDULE, (2,), "data", eta, **backend)
    return diffusion.DiffusionModel(
        kernel, diffusion.FunctionReward(reward, traceable=not torch), 3.0, **options
    )


RICH = {
    "twist": diffusion.Max(diffusion.ManyDraws(2)),
    "proposal": diffusion.Guided(0.5),
    "num_problems": 2,
}


@pytest.mark.slow
def test_take_moves_everything():
    """The permutation law: stepping a permuted population is permuting the leaves, whatever they are."""
    m = model(torch=True, **RICH)
    keys = jax.random.split(jax.random.key(0), 2)
    state, _ = m.init(keys, 4)
    for t in (1, 2, 3):
        state, _ = m.step(keys, t, state)
    moved = m.take(state, np.array([[3, 3, 0, 1], [0, 2, 2, 2]]))
    rows = [3, 3, 0, 1, 4, 6, 6, 6]
    before, after = jax.tree.leaves(state), jax.tree.leaves(moved)
    assert len(before) == 6  # latents, prediction, gradient, running maximum, log psi, value
    for old, new in zip(before, after, strict=True):
        assert len(old) == 8
        assert len({tuple(np.ravel(x)) for x in np.asarray(old)}) > 1  # it would show
        np.testing.assert_array_equal(np.asarray(new), np.asarray(old)[rows])


@pytest.mark.slow
@pytest.mark.parametrize("options", [RICH, {"candidates": 3}], ids=["rich", "nested"])
def test_torch_and_jax_agree(options):
    """The same seed, the same noise: the same particles, ancestors, evidence and counted cost."""
    runs = [
        smcgen.smc(model(torch, **options), 3, 8, ess_threshold=0.9, keep="particles")
        for torch in (False, True)
    ]
    jaxed, torched = runs
    np.testing.assert_array_equal(jaxed.ancestors, torched.ancestors)
    np.testing.assert_allclose(jaxed.particles.data, torched.particles.data, atol=1e-5)
    np.testing.assert_allclose(jaxed.log_evidence, torched.log_evidence, rtol=1e-4)
    work = model(**options).work(8)
    assert (torched.cost.nfe, torched.cost.reward_calls) == (work.nfe, work.reward_calls)


@pytest.mark.slow
def test_the_reward_is_called_only_where_it_may_matter():
    calls = []

    def counted(x):
        calls.append(len(x))
        return score(x)

    m = model(torch=True, reward=counted, steps=(3, 5))
    result = smcgen.smc(m, 0, 8, ess_threshold=1.0)
    assert calls == [8, 8, 8]  # before steps 3 and 5, and at the end
    assert list(np.flatnonzero(result.resampled) + 1) == [3, 5]  # although "always" was asked for
    assert result.cost.reward_calls == 24
    assert result.cost.nfe == 8 * T


def test_deterministic_steps_are_never_resampled(unchecked):
    with pytest.raises(InvalidArgument, match="random steps \\(eta > 0"):
        model(eta=0.0)
    with pytest.raises(InvalidArgument, match=f"step {T} is deterministic.*are 1-5"):
        model(steps=(3, T))
    with pytest.raises(InvalidArgument, match=f"step {T} is deterministic"):
        model(steps=AtSteps((T,)))
    assert model(steps=Every(2)).resampling_steps == (2, 4)  # a rule passes over the last one
    assert model(eta=0.0, twist=None).resampling_steps == ()


def test_problems_are_the_kernels():
    kernel = replace(model(torch=True).kernel, prompts=("a", "b"))
    assert diffusion.DiffusionModel(kernel).num_problems == 2
    with pytest.raises(InvalidArgument, match="num_problems=3.*2, as the kernel has"):
        diffusion.DiffusionModel(kernel, num_problems=3)


def test_bad_arguments(unchecked):
    with pytest.raises(InvalidArgument, match="integers from 1 to 6"):
        model(steps=(0,))
    with pytest.raises(InvalidArgument, match="integers from 1 to 6"):
        model(steps=AtSteps((3, 9)))
    with pytest.raises(InvalidArgument, match="7 finite numbers"):
        model(ladder=[0.5, 1.0])
    with pytest.raises(InvalidArgument, match="None without a reward and a twist: no strength"):
        model(ladder=np.linspace(0, 1, T + 1), twist=None)
    with pytest.raises(InvalidArgument, match="twist='best' is not allowed"):
        diffusion.steer(model().kernel, score, twist="best")
    with pytest.raises(InvalidArgument, match="prompt='a cat' is not allowed"):
        diffusion.steer(model().kernel, score, prompt="a cat")


@pytest.mark.slow
def test_a_ladder_found_by_bisection():
    m = model(torch=True, reward=lambda x: -5 * (x[:, 0] - 3) ** 2)
    ladder = diffusion.find_ladder(m, 1, 8, ess=0.9)
    assert ladder.shape == (T + 1,)
    assert ladder[-1] == 1
    assert np.all(np.diff(ladder) >= 0)
    assert 0 < ladder[1] < 1
    even = smcgen.smc(model(torch=True, reward=lambda x: 0 * x[:, 0]), 1, 8)
    assert float(even.log_evidence) == pytest.approx(0, abs=1e-5)


def test_a_rung_leaves_the_effective_sample_size_that_was_asked_for():
    rng = np.random.default_rng(0)
    values, before = 9 * rng.normal(size=(2, 50)), rng.normal(size=(2, 50)) * 0.1
    values[1] *= 1e-4  # this problem can be at full strength at once
    rising = _Rising(ess=0.8, problems=2)
    log_psi, rung = rising.update(2.0, values.ravel(), np.zeros(100), before.ravel(), np)
    rung = rung.reshape(2, 50)
    assert np.all(rung == rung[:, :1])
    np.testing.assert_array_equal(log_psi.reshape(2, 50), rung * values)
    w = np.exp(rung[:, :1] * values - before)
    ess = w.sum(1) ** 2 / (w**2).sum(1)
    assert ess[0] == pytest.approx(0.8 * 50, rel=1e-5)
    assert 0 < rung[0, 0] < 2
    assert rung[1, 0] == 2.0


@pytest.mark.slow
def test_a_learned_value_asks_no_reward():
    m = model(torch=True)
    records, worth = diffusion.experience(m, 0, 32)
    assert records.shape == (32 * len(m.resampling_steps), 3)
    assert worth.shape == (len(records),)
    design = np.concatenate([records, records**2, np.ones((len(records), 1))], axis=1)
    weights = np.linalg.lstsq(design, worth, rcond=None)[0]

    def fitted(rows):
        return np.concatenate([rows, rows**2, np.ones((len(rows), 1))], axis=1) @ weights

    learned = model(torch=True, twist=diffusion.Difference(diffusion.Learned(fitted)))
    result = smcgen.smc(learned, 1, 8)
    assert result.cost.reward_calls == 8  # those at the end
    assert np.isfinite(result.log_evidence)


def test_a_run_is_one_jitted_scan():
    m = model(eta=(1.0,) * T)
    text = jax.jit(lambda key: smcgen.smc(m, key, 4).log_evidence).lower(jax.random.key(0))
    assert text.as_text().count("stablehlo.while") >= 1
    assert jnp.shape(
        jax.eval_shape(lambda k: smcgen.smc(m, k, 4).particles.data, jax.random.key(0))
    ) == (4, 2)


def test_a_last_step_without_noise_is_rewarded_once():
    """All candidates there would be the same."""
    calls = []
    m = model(
        torch=True, reward=lambda x: calls.append(len(x)) or score(x), candidates=3, steps=(4,)
    )
    result = smcgen.smc(m, 0, 4)
    assert calls == [12, 4]
    assert result.cost.reward_calls == m.work(4).reward_calls == 16


def test_a_learned_value_at_strength_zero():
    learned = diffusion.Difference(diffusion.Learned(lambda rows: rows[:, 0]))
    m = replace(model(torch=True, twist=learned), strength=0.0)
    assert float(smcgen.smc(m, 0, 4).log_evidence) == pytest.approx(0, abs=1e-6)


def test_a_ladder_of_a_negative_strength_rises_as_well():
    m = model(torch=True, reward=lambda x: 5 * (x[:, 0] - 3) ** 2)
    mirrored = replace(m, strength=-3.0)
    twin = model(torch=True, reward=lambda x: -5 * (x[:, 0] - 3) ** 2)
    ladder = diffusion.find_ladder(mirrored, 1, 8)
    np.testing.assert_allclose(ladder, diffusion.find_ladder(twin, 1, 8), rtol=1e-6)
    with pytest.raises(InvalidArgument, match="strength 0"):
        diffusion.find_ladder(replace(m, strength=0.0), 1, 8)


def test_every_population_is_kept_if_asked_for():
    kernel = replace(model(torch=True).kernel, prompts=("a", "b"))
    both = diffusion.steer(kernel, score, n_particles=4, keep="particles")
    for result in both:
        assert len(result.smc.history) == T + 1
        path = result.smc.path(1)
        np.testing.assert_array_equal(path[-1].x, np.asarray(result.data)[1])
    assert diffusion.steer(kernel, score, n_particles=4)[0].smc.history is None


@pytest.mark.parametrize("rows", [None, 2], ids=["one problem", "two"])
def test_an_interrupted_run_in_torch_is_resumed(tmp_path, rows):
    """To the same samples and the same counted cost; `keep` is what makes the records travel too."""
    kernel = replace(model(torch=True).kernel, prompts=None if rows is None else tuple(range(rows)))
    options = {"n_particles": 4, "key": 3, "twist": "max", "guidance": 0.5, "keep": "particles"}
    whole = diffusion.steer(kernel, score, **options)

    def stop(progress):
        if progress.t == 3:
            raise KeyboardInterrupt

    saved = {"checkpoint": tmp_path / "run", **options}
    with pytest.raises(KeyboardInterrupt):
        diffusion.steer(kernel, score, callback=stop, **saved)
    resumed = diffusion.steer(kernel, score, **saved)
    for a, b in zip(*([x] if rows is None else x for x in (whole, resumed)), strict=True):
        np.testing.assert_array_equal(a.data.numpy(), b.data.numpy())
        assert a.log_evidence == b.log_evidence
        assert (a.cost.nfe, a.cost.reward_calls) == (b.cost.nfe, b.cost.reward_calls)
        np.testing.assert_array_equal(a.smc.path(0)[2].x, b.smc.path(0)[2].x)
