"""Bad input and faults: one clear error each, and nothing lost."""

import numpy as np
import pytest

import smcgen
from smcgen.core.status import SMCError, SMCInterrupted, Status
from smcgen.errors import InvalidArgument, RewardError, SmcgenError, UnknownName
from smcgen.text import FunctionReward, Sampling, Step, Tilt
from tests.text import tiny
from tests.text.toy import EOS, ToyEngine


def steer(prompt="a.", engine=None, **options):
    defaults = {"model": engine or ToyEngine(1), "n_particles": 4, "step": 1, "max_tokens": 4}
    return smcgen.steer(prompt, **(defaults | options))


@pytest.mark.parametrize("prompt", ["", [], [""], ["a", ""]])
def test_empty_prompt(prompt):
    with pytest.raises(InvalidArgument, match="prompt"):
        steer(prompt)


def test_chat_without_a_template():
    with pytest.raises(InvalidArgument, match="chat template"):
        steer([{"role": "user", "content": "a"}])


def test_token_ids_outside_the_vocabulary():
    with pytest.raises(InvalidArgument, match=r"token ids in \[0, 5\)"):
        steer([0, 99])


def test_prompt_longer_than_the_context():
    with pytest.raises(InvalidArgument, match="200 tokens.*fewer than.*128"):
        steer("a" * 200, tiny.engine())


@pytest.mark.parametrize("n", [0, -3, 2.5, True])
def test_n_particles(n, unchecked):
    with pytest.raises(InvalidArgument, match="n_particles"):
        steer(n_particles=n)


def test_unknown_resampling_lists_the_known_ones():
    with pytest.raises(
        UnknownName, match="killing.*multinomial.*residual.*ssp.*stratified.*systematic"
    ):
        steer(resampling="bootstrap")


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"step": 0}, "step"),
        ({"step": ""}, "step"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_steps": 0}, "max_steps"),
        ({"max_steps": 2.5}, "max_steps"),
        ({"max_tokens": "5"}, "max_tokens"),
        ({"twist": "none"}, "twist"),
        ({"scale": "log"}, "scale"),
        ({"strength": 2.0}, "strength"),
        (
            {"reward": FunctionReward(len, probability=True), "twist": "max", "strength": np.nan},
            "strength",
        ),
        ({"temperature": -1.0}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_k": 0}, "top_k"),
        ({"reward": len, "twist": "best"}, "twist"),
        ({"reward": len, "scale": "log"}, "scale"),
        ({"reward": len, "strength": np.inf}, "strength"),
        ({"reward": 3.0}, "reward"),
        ({"ess_threshold": 2.0}, "ess_threshold"),
        ({"answer": "("}, "answer"),
        ({"on_error": "ignore"}, "on_error"),
    ],
)
def test_each_bad_argument_is_named(options, name, unchecked):
    with pytest.raises(InvalidArgument, match=f"^{name}="):
        steer(**options)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_reward_that_is_not_finite(value):
    reward = lambda texts: [value if "b" in t else 0.0 for t in texts]
    with pytest.raises(SMCError, match="NaN or \\+inf at step .* for particle number .*b"):
        steer(reward=reward, n_particles=16)
    result = steer(reward=reward, n_particles=16, on_error="return")
    assert result.status is Status.NON_FINITE_POTENTIAL
    assert len(result.texts) == 16


def test_nan_probability_is_not_hidden():
    reward = FunctionReward(lambda texts: [np.nan for _ in texts], probability=True)
    for scale in ("log", "logit", "identity"):
        with pytest.raises(SMCError, match="NaN"):
            steer(reward=Tilt(reward, scale=scale))


def test_probability_outside_its_range():
    reward = FunctionReward(lambda texts: [1.2 for _ in texts], probability=True)
    with pytest.raises(RewardError, match=r"1\.2.*\[0, 1\]"):
        steer(reward=reward)


def test_reward_of_the_wrong_length():
    with pytest.raises(RewardError, match="3"):
        steer(reward=lambda texts: [0.0, 0.0, 0.0])


def test_reward_that_raises_on_one_particle():
    def reward(texts):
        if any("b" in t for t in texts):
            raise KeyError("no score for b")
        return [0.0 for _ in texts]

    with pytest.raises(RewardError, match="b") as caught:
        steer(reward=reward, n_particles=16)
    assert isinstance(caught.value.__cause__, KeyError)


def test_a_failing_reward_loses_nothing():
    calls = []

    def reward(texts):
        calls.append(len(texts))
        if len(calls) == 3:
            raise RuntimeError("server gone")
        return [0.0 for _ in texts]

    with pytest.raises(SmcgenError) as caught:
        steer(reward=reward, n_particles=16, ess_threshold=0.0)
    partial = caught.value.result  # type: ignore[attr-defined]
    assert partial.smc.num_steps == 2
    assert max(len(t) for t in partial.texts) == 2


class Endless(ToyEngine):
    """Never ends by itself."""

    @property
    def logits(self):
        table = np.array(super().logits)
        table[:, EOS] = -1e9
        return table


def test_all_weights_zero_says_when_and_shows_the_best():
    score = lambda texts: [-np.inf if len(t) >= 2 else float(t.count("a")) for t in texts]
    reward = Tilt(FunctionReward(score), absorbing=True)
    with pytest.raises(SMCError, match="all weights are zero at step 2") as caught:
        steer(reward=reward, engine=Endless(2), n_particles=8, prompt="b")
    best = np.argmax(caught.value.result.smc.log_weights)
    assert f"number {best}: 'a" in str(caught.value)  # the one that had an a before
    assert "after the prompt 'b'" in str(caught.value)
    assert caught.value.result.log_evidence == -np.inf


def test_one_problem_that_fails_leaves_the_others_alone():
    reward = FunctionReward(
        lambda prompts, texts: [
            -np.inf if p == "b" else 0.5 * len(t) for p, t in zip(prompts, texts, strict=True)
        ],
        prompts=True,
    )
    with pytest.raises(SMCError, match="of problem 1"):
        steer(["a", "b", "."], reward=reward)
    results = steer(["a", "b", "."], reward=reward, on_error="return")
    assert [r.status for r in results] == [Status.OK, Status.ALL_WEIGHTS_ZERO, Status.OK]
    alone = steer(["a"], reward=reward)[0]
    assert alone.texts == results[0].texts
    np.testing.assert_allclose(alone.weights, results[0].weights)


def test_model_that_does_not_exist():
    with pytest.raises(SmcgenError, match="no/such/model"):
        smcgen.steer("a", model="no/such/model")
    with pytest.raises(SmcgenError, match="reward=.*missing-reward"):
        steer(reward="./missing-reward", engine=tiny.engine())


def test_tokenizer_without_a_pad_token():
    engine = tiny.engine()
    assert engine.tokenizer.pad_token is None
    results = steer(["a", "ab.a"], engine)
    assert len(results) == 2


def test_interrupt_keeps_what_there_is():
    def interrupt(told):
        if told.t == 2:
            raise KeyboardInterrupt

    with pytest.raises(SMCInterrupted) as caught:
        steer(callback=interrupt, n_particles=16)
    assert caught.value.result.smc.num_steps == 2
    assert max(len(t) for t in caught.value.result.texts) == 2
    result = steer(callback=interrupt, n_particles=16, on_error="return")
    assert result.status is Status.INTERRUPTED
    assert max(len(t) for t in result.texts) <= 2


def test_interrupt_inside_the_reward():
    def reward(texts):
        if any(len(t) == 2 for t in texts):
            raise KeyboardInterrupt
        return [0.0 for _ in texts]

    result = steer(reward=reward, n_particles=16, on_error="return")
    assert result.status is Status.INTERRUPTED
    assert result.smc.num_steps == 1


def test_one_particle_is_plain_sampling():
    steered = steer(reward=lambda texts: [float(len(t)) for t in texts], n_particles=1)
    plain = steer(n_particles=1)
    assert steered.texts == plain.texts
    assert plain.log_evidence == pytest.approx(0.0, abs=1e-6)


def test_a_proposal_that_forbids_what_the_base_allows():
    with pytest.raises(InvalidArgument, match="proposal"):
        steer(engine=tiny.engine(), proposal=Sampling(top_k=1))


def test_step_needs_an_end():
    with pytest.raises(InvalidArgument, match="step"):
        Step()


def test_nan_is_not_hidden_by_any_aggregate():
    """A minimum that skips NaN would run on with the other scores."""
    reward = FunctionReward(
        lambda texts: [np.nan if len(t) == 2 else 0.5 for t in texts], probability=True
    )
    for choice in ("min", "mean", "max", "product", "value"):
        with pytest.raises(SMCError, match="NaN"):
            steer(reward=Tilt(reward, twist=choice, outcome=choice), engine=Endless(2))


def test_a_sum_of_probabilities_is_refused():
    with pytest.raises(InvalidArgument, match="outcome"):
        Tilt(FunctionReward(len, probability=True), outcome="sum")


def test_a_failed_problem_is_not_written_on():
    asked = []

    def reward(prompts, texts):
        asked.append(prompts.count("b"))
        return [np.nan if p == "b" else 0.0 for p in prompts]

    results = steer(
        ["a", "b"], Endless(1), reward=FunctionReward(reward, prompts=True), on_error="return"
    )
    assert [r.status for r in results] == [Status.OK, Status.NON_FINITE_POTENTIAL]
    assert sum(n > 0 for n in asked) == 1
    assert results[1].answer is None
    assert not results[1].weights.any()


def test_an_error_that_is_not_ours_loses_nothing_either():
    def callback(told):
        if told.t == 2:
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError) as caught:
        steer(callback=callback, n_particles=8)
    assert caught.value.result.smc.num_steps == 2
    assert any("at step" in note for note in caught.value.__notes__)


def test_best_is_by_the_whole_potential():
    constant, length = (
        FunctionReward(lambda ts: [0.0] * len(ts)),
        FunctionReward(lambda ts: [len(t) for t in ts]),
    )
    result = steer(engine=ToyEngine(3), reward=constant * length, n_particles=32, ess_threshold=0.0)
    ended = [t for t, f in zip(result.texts, result.finish, strict=True) if f == 1]
    assert len(result.best) == max(map(len, ended))
    shortest = steer(engine=ToyEngine(3), reward=length**-3, n_particles=32, ess_threshold=0.0)
    ended = [t for t, f in zip(shortest.texts, shortest.finish, strict=True) if f == 1]
    assert len(shortest.best) == min(map(len, ended))
