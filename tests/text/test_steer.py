"""`smcgen.steer`, end to end, on the models that ship."""

import io

import jax
import numpy as np
import pytest
from rich.console import Console

import smcgen
from smcgen.core.status import Status
from smcgen.shipped import shipped
from smcgen.text import FunctionReward, ProcessReward, Regex, Tilt, Transformers
from smcgen.text.texts import Finish
from tests.text import tiny

PROMPTS = ["Q:47+86*3-19*4+55\n", "Q:12+34\n", "Q:9*7-30\n"]
ANSWER = r"A:(\d+)"


@pytest.fixture(scope="module")
def engine():
    return Transformers(shipped("tape-policy"))


@pytest.fixture(scope="module")
def prm():
    return ProcessReward(shipped("tape-prm-good"))


def steer(prompt, engine, **options):
    return smcgen.steer(prompt, model=engine, answer=ANSWER, **({"n_particles": 8} | options))


def test_result(engine, prm):
    result = steer(PROMPTS[0], engine, reward=prm, n_particles=16)
    assert result.status is Status.OK
    assert len(result.texts) == 16
    assert result.weights.sum() == pytest.approx(1.0)
    posterior = result.answers()
    assert sum(posterior.values()) + posterior.none == pytest.approx(1.0)
    assert result.answer == posterior.best
    assert result.best == result.texts[result.best_index]
    assert result.finish[result.best_index] == Finish.EOS
    assert result.sample(0) in result.texts
    assert len(result.sample(0, 5)) == 5
    assert result.log_evidence < 0
    assert result.log_evidence_stderr > 0
    assert result.cost.tokens_generated > 16 * 30
    assert 0 < result.cost.reward_tokens <= result.cost.tokens_generated + 30
    for part in ("best=", "answer=", "log_evidence=", "ess=", "tokens_generated="):
        assert part in repr(result)


@pytest.mark.slow
def test_trace_tells_who_had_children(engine, prm):
    result = steer(PROMPTS[0], engine, reward=prm, n_particles=16, ess_threshold=1.0)
    trace = result.trace()
    assert "47+86=33" in trace
    assert "killed" in trace
    assert "children" in trace
    first = trace.split("step 2")[0]
    born = [
        int(line.split("children")[1].split()[0])
        for line in first.splitlines()
        if "children" in line
    ]
    assert sum(born) == 16


@pytest.mark.slow
def test_a_problem_does_not_depend_on_its_neighbours(engine, prm):
    keys = jax.random.split(jax.random.key(3), 3)
    together = steer(PROMPTS, engine, reward=prm, key=keys)
    for i, prompt in enumerate(PROMPTS):
        alone = steer(prompt, engine, reward=prm, key=keys[i])
        assert alone.texts == together[i].texts
        np.testing.assert_allclose(alone.weights, together[i].weights, rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_the_seed_fixes_everything(engine, prm):
    assert (
        steer(PROMPTS[0], engine, reward=prm).texts == steer(PROMPTS[0], engine, reward=prm).texts
    )
    assert steer(PROMPTS[0], engine, key=1).texts != steer(PROMPTS[0], engine, key=2).texts


def test_names_and_paths_are_enough():
    result = smcgen.steer(
        PROMPTS[1],
        model=str(shipped("tape-policy")),
        reward=str(shipped("tape-prm-good")),
        n_particles=4,
    )
    assert len(result.texts) == 4


@pytest.mark.slow
def test_steering_concentrates_on_right_answers(engine, prm):
    free = steer(PROMPTS[0], engine, n_particles=32)
    steered = steer(PROMPTS[0], engine, reward=prm, n_particles=32)
    right = str((((47 + 86) % 100 * 3 - 19) * 4 + 55) % 100)
    assert steered.answers().get(right, 0.0) > free.answers().get(right, 0.0)


@pytest.mark.slow
def test_best_of_n_is_the_filter_without_guidance(engine, prm):
    result = steer(PROMPTS[0], engine, reward=prm, twist="none", ess_threshold=0.0)
    assert not np.asarray(result.smc.resampled).any()
    assert result.texts == steer(PROMPTS[0], engine).texts  # independent samples of the model
    np.testing.assert_allclose(result.weights, result.scores / result.scores.sum(), rtol=1e-4)
    assert result.cost.reward_calls <= 8  # finished texts only, equal ones once


@pytest.mark.slow
def test_constraint(engine):
    result = steer(PROMPTS[0], engine, reward=Regex(r"[0-689+\-*=\nA:]*"), step=1, max_tokens=80)
    kept = [t for t, w in zip(result.texts, result.weights, strict=True) if w > 0]
    assert kept
    assert not any("7" in t for t in kept)


@pytest.mark.slow
def test_step_rules(engine):
    for step in ("\n", ["\n", ":"], 5, lambda text: text.endswith("=")):
        result = steer(PROMPTS[1], engine, step=step)
        pieces = [result.population.step_texts(i) for i in range(8)]
        assert ["".join(p) for p in pieces] == result.texts


@pytest.mark.slow
def test_chat_prompts():
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}.{% endfor %}"
    engine = Transformers(tiny.llama(), tokenizer)
    chat = smcgen.steer(
        [{"role": "user", "content": "ab"}], model=engine, n_particles=2, step=1, max_tokens=3
    )
    text = smcgen.steer("ab.", model=engine, n_particles=2, step=1, max_tokens=3)
    assert chat.texts == text.texts
    assert chat.prompt.text == "ab"
    several = [[{"role": "user", "content": c}] for c in "ab"]
    assert len(smcgen.steer(several, model=engine, n_particles=2, step=1, max_tokens=3)) == 2


def test_token_ids_in(engine):
    ids = engine.tokenizer(PROMPTS[1])["input_ids"]
    assert steer(ids, engine).texts == steer(PROMPTS[1], engine).texts


@pytest.mark.slow
def test_strength_is_a_power(engine, prm):
    a = steer(PROMPTS[0], engine, reward=prm, strength=2.0)
    b = steer(PROMPTS[0], engine, reward=prm**2)
    c = steer(PROMPTS[0], engine, reward=Tilt(prm, 2.0))
    assert a.texts == b.texts == c.texts


def test_progress_bar(engine, monkeypatch):
    shown = io.StringIO()
    monkeypatch.setattr(
        "rich.progress.get_console", lambda: Console(file=shown, force_terminal=True, width=200)
    )
    steer(PROMPTS[1], engine, progress=True)
    assert "log Z" in shown.getvalue()


def test_inside_a_running_event_loop(engine):
    """As in a notebook: the call is synchronous and does not mind."""
    import asyncio

    async def cell():
        return steer(PROMPTS[1], engine)

    assert len(asyncio.run(cell()).texts) == 8


@pytest.mark.slow
def test_arviz_and_plot(engine, prm):
    pytest.importorskip("arviz")
    result = steer(PROMPTS[0], engine, reward=prm)
    data = result.to_arviz()
    assert data.posterior["score"].shape == (1, 8)
    assert result.plot() is not None


@pytest.mark.slow
def test_rewards_see_prompts(engine):
    seen = set()

    def reward(prompts, texts):
        seen.update(prompts)
        return [0.0] * len(texts)

    steer(PROMPTS, engine, reward=FunctionReward(reward, prompts=True))
    assert seen == set(PROMPTS)
