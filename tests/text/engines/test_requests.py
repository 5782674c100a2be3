"""Steps made of completions: exact laws on an enumerated model, where steps end, copies, seeds, and what is refused."""

from collections import Counter
from typing import Any

import jax
import numpy as np
import pytest

from smcgen.core.cost import Meter
from smcgen.core.smc import smc
from smcgen.errors import EngineError, InvalidArgument
from smcgen.text.engines import Law
from smcgen.text.engines import _requests as requests_module
from smcgen.text.factors import TokenMask
from smcgen.text.model import TextModel
from smcgen.text.potentials.tilt import Tilt
from smcgen.text.prompts import Prompt
from smcgen.text.randomness import StepRandomness
from smcgen.text.rewards import FunctionReward
from smcgen.text.sampling import Sampling
from smcgen.text.steps import Step
from smcgen.text.texts import Finish
from tests.laws import assert_law, assert_unbiased
from tests.text.engines.served import LocalEngine, toy
from tests.text.toy import EOS, ToyEngine

N, TOKENS = 4, 4
A = Prompt((0,), "a")
STEPS: dict[str, Any] = {
    "lines": "\n",
    "tokens": 1,
    "two tokens": 2,
    "split delimiter": Step(delimiters=(".\n", "ab")),
    "delimiter or three": Step(delimiters=("\n",), tokens=3),
    "function of text": Step(when=lambda text: text.endswith("b")),
    "function of ids": Step(when=lambda ids: len(ids) >= 2 and ids[-1] != 0, on="ids"),
}


def tilt_reward(texts):
    return [0.9 * t.count("a") - 0.6 * t.count(".") for t in texts]


def randomness(problems: int = 1, n: int = N, seed: int = 0) -> StepRandomness:
    keys = [jax.random.fold_in(jax.random.key(seed), p) for p in range(problems)]
    return StepRandomness(jax.numpy.stack(keys), n)


def assert_laws(engine, potential, step, runs, sampling=Sampling(), proposal=None, seed=7):
    """E[Z-hat] = Z and E[Z-hat f-hat] = Z pi(f), by enumeration."""
    law = ToyEngine(1).law(TOKENS, sampling)
    text = engine.tokenizer.decode
    psi = lambda ids: np.exp(tilt_reward([text(ids, skip_special_tokens=True)])[0])
    f = lambda ids: float(len(ids)) + 0.5 * (ids[0] == 0)
    z = sum(np.exp(lp) * psi(ids) for ids, lp in law.items())
    zf = sum(np.exp(lp) * psi(ids) * f(ids) for ids, lp in law.items())
    model = TextModel(engine, ["a"] * runs, potential, step, 8, TOKENS, sampling, proposal)
    run = smc(model, seed, N, ess_threshold=0.9)
    z_hat = np.exp(np.asarray(run.log_evidence, np.float64))
    texts = run.particles
    values = np.array([f(tuple(texts.tokens(r))) for r in range(len(texts))]).reshape(runs, N)
    weights = np.exp(np.asarray(run.log_weights, np.float64))
    assert_unbiased(z_hat / z, 1.0, "Z")
    assert_unbiased(z_hat * (weights * values).sum(1) / zf, 1.0, "Z f")
    return run


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
@pytest.mark.parametrize("chunk", [1, 16])
def test_steered_law(step, chunk, monkeypatch):
    monkeypatch.setattr(requests_module, "_CHUNK", chunk)
    engine = LocalEngine(toy(1))
    assert_laws(engine, Tilt(FunctionReward(tilt_reward)), step, 300)


@pytest.mark.parametrize("sampling", [Sampling(0.7), Sampling(top_k=3), Sampling(1.3, top_p=0.8)])
def test_other_base_laws(sampling):
    engine = LocalEngine(toy(1))
    assert_laws(engine, Tilt(FunctionReward(tilt_reward)), "\n", 300, sampling)


def test_another_proposal_is_corrected_for():
    engine = LocalEngine(toy(1))
    tilt = Tilt(FunctionReward(tilt_reward))
    run = assert_laws(engine, tilt, "\n", 400, proposal=Sampling(1.5))
    assert np.asarray(run.log_weights).std() > 0


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_texts_follow_the_base_law(step):
    """However steps are cut and run-ahead is thrown away."""
    engine = LocalEngine(toy(3))
    run = smc(TextModel(engine, "a", None, step, 8, TOKENS), 5, 3000, resampling="systematic")
    law = ToyEngine(3).law(TOKENS)
    counts = Counter(tuple(run.particles.tokens(r)) for r in range(3000))
    assert_law(np.array([counts[ids] for ids in law]), np.exp(list(law.values())))
    np.testing.assert_allclose(run.log_evidence, 0.0, atol=1e-6)


@pytest.mark.parametrize("stops", [0, 1024], ids=["no stop tokens", "stop tokens"])
@pytest.mark.parametrize("step", STEPS.values(), ids=STEPS)
def test_a_step_ends_where_its_rule_says(step, stops, monkeypatch):
    monkeypatch.setattr(requests_module, "_MOST_STOPS", stops)
    monkeypatch.setattr(requests_module, "_CHUNK", 3)
    engine, rule = LocalEngine(toy(2)), TextModel(LocalEngine(toy(2)), "a", None, step).rule
    meter = Meter()
    session = engine.open([A], 40, Law(), meter)
    got = session.extend(np.arange(40), rule, np.full(40, 30), randomness(n=40))
    decode = lambda ids: engine.tokenizer.decode(ids, skip_special_tokens=True)

    def ends(ids):
        text = decode(ids)
        asked = rule.when is not None and rule.when(text if rule.on == "text" else ids)
        return asked or any(d in text for d in rule.delimiters) or len(ids) == rule.tokens

    for row in range(40):
        ids = got.tokens[row, : got.lengths[row]].tolist()
        assert not any(ends(ids[:k]) for k in range(1, len(ids)))
        if got.finish[row] == Finish.RUNNING:
            assert ends(ids)
        elif got.finish[row] == Finish.EOS:
            assert ids[-1] == EOS
        else:
            assert (got.finish[row], len(ids)) == (Finish.LENGTH, 30)
        logs = engine.completers[0].score([(0, *ids)], [1])[0].sum()
        np.testing.assert_allclose(got.log_base[row], logs, rtol=1e-9)
    cost = meter.read()
    asked = engine.completers[0].asked
    assert cost.tokens_prefilled == 1  # one prompt of one token, whatever the copies
    assert cost.tokens_generated >= got.lengths.sum()
    if rule.when is None and stops:
        assert cost.tokens_generated == got.lengths.sum()  # stop tokens: nothing is thrown away
    assert all(len(r) <= 40 for r in asked)


def test_limits_last_step_and_ended_rows():
    engine = LocalEngine(toy(2))
    session = engine.open([A], N, Law(), Meter())
    got = session.extend(np.array([0, 2]), Step(tokens=3), np.array([1, 0]), randomness())
    assert got.lengths.tolist() == [1, 0]
    assert got.finish[1] == Finish.LENGTH
    asked = [r for requests in engine.completers[0].asked for r in requests]
    assert [r.max_tokens for r in asked] == [1]
    cut = session.extend(np.array([1]), Step(tokens=2), np.array([9]), randomness(), last=True)
    assert cut.finish[0] in (Finish.LENGTH, Finish.EOS)
    empty = session.extend(np.zeros(0, int), Step(tokens=2), np.zeros(0, int), randomness())
    assert empty.tokens.shape == (0, 0)
    short = LocalEngine(toy(2), max_length=3).open([A], 1, Law(), Meter())
    full = short.extend(np.array([0]), Step(tokens=9), np.array([9]), randomness(n=1))
    assert full.lengths[0] <= 2


def test_copies_share_a_history_and_have_seeds_in_a_row():
    engine = LocalEngine(toy(2))
    session = engine.open([A, A], N, Law(), Meter())
    session.extend(np.arange(8), Step(tokens=2), np.full(8, 9), randomness(2, seed=2))
    first = engine.completers[0].asked[0]
    seeds = [r.seed for r in first]
    assert [s - seeds[0] for s in seeds[:N]] == [0, 1, 2, 3]
    assert [s - seeds[N] for s in seeds[N:]] == [0, 1, 2, 3]
    assert seeds[0] != seeds[N]  # problems do not share draws, even with the same prompt
    session.take(np.array([1, 1, 2, 1, 4, 5, 6, 7]))
    session.extend(np.arange(8), Step(tokens=1), np.full(8, 9), randomness(2, seed=1))
    second = engine.completers[0].asked[1]
    assert second[0].ids == second[1].ids == second[3].ids
    assert [second[i].seed - second[0].seed for i in (1, 3)] == [1, 2]


@pytest.mark.slow
def test_what_a_problem_writes_does_not_depend_on_others():
    tilt = Tilt(FunctionReward(tilt_reward))
    model = lambda prompts: TextModel(LocalEngine(toy(2)), prompts, tilt, 2, 8, TOKENS)
    both = smc(model(["a", "a"]), 3, N, ess_threshold=1.0)
    again = smc(model(["a", "a"]), 3, N, ess_threshold=1.0)
    assert both.particles.ids.tolist() == again.particles.ids.tolist()
    extend = lambda problems: (
        LocalEngine(toy(2))
        .open([A] * problems, N, Law(), Meter())
        .extend(
            np.arange(problems * N), Step(tokens=3), np.full(problems * N, 9), randomness(problems)
        )
    )
    assert extend(3).tokens[:N].tolist() == extend(1).tokens.tolist()


def test_resumed_texts_go_on_from_their_tokens():
    engine, meter = LocalEngine(toy(2)), Meter()
    session = engine.open([A], 2, Law(), meter, [[1, 2], []])
    session.extend(np.arange(2), Step(tokens=1), np.full(2, 9), randomness(n=2))
    assert [r.ids for r in engine.completers[0].asked[0]] == [(0, 1, 2), (0,)]
    assert meter.read().tokens_prefilled == 4


def test_an_end_of_text_that_only_the_engine_knows():
    engine = LocalEngine(toy(2))
    engine.spoil = lambda c: c._replace(finish="stop")
    session = engine.open([A], N, Law(), Meter())
    got = session.extend(np.arange(N), Step(tokens=3), np.full(N, 9), randomness())
    assert (got.finish == Finish.EOS).all()


def test_greedy_needs_no_log_probabilities():
    engine = LocalEngine(toy(2), processed=False)
    engine.spoil = lambda c: c._replace(log_probs=[])
    session = engine.open([A], 2, Law(Sampling(temperature=0)), Meter())
    got = session.extend(np.arange(2), Step(tokens=3), np.full(2, 9), randomness(n=2))
    assert got.tokens[0].tolist() == got.tokens[1].tolist()
    assert (got.log_base == 0).all()


SPOILED = {
    "a token that is none": (lambda c: c._replace(tokens=[99] * len(c.tokens)), "token 99"),
    "a negative token": (lambda c: c._replace(tokens=[-1] * len(c.tokens)), "token -1"),
    "a token that is no number": (lambda c: c._replace(tokens=["a"] * len(c.tokens)), "token 'a'"),
    "too many tokens": (lambda c: c._replace(tokens=[0] * 9, log_probs=[0.0] * 9), "9 tokens"),
    "no tokens": (lambda c: c._replace(tokens=[], log_probs=[]), "0 tokens"),
    "no log-probabilities": (lambda c: c._replace(log_probs=[]), "0 log-probabilities"),
    "None": (lambda c: c._replace(log_probs=[None] * len(c.tokens)), "None"),
    "NaN": (lambda c: c._replace(log_probs=[float("nan")] * len(c.tokens)), "nan"),
    "minus infinity": (lambda c: c._replace(log_probs=[-9999.0] * len(c.tokens)), "-9999"),
    "a logit": (lambda c: c._replace(log_probs=[1.5] * len(c.tokens)), "1.5"),
    "aborted": (lambda c: c._replace(finish="abort"), "abort"),
}


@pytest.mark.parametrize(("spoil", "message"), SPOILED.values(), ids=SPOILED)
def test_nonsense_is_one_clear_error(spoil, message):
    engine = LocalEngine(toy(2))
    engine.spoil = spoil
    session = engine.open([A], 2, Law(), Meter())
    with pytest.raises(EngineError, match=message):
        session.extend(np.arange(2), Step(tokens=3), np.full(2, 9), randomness(n=2))


def test_laws_that_cannot_be_weighted_are_refused():
    raw, engine = LocalEngine(toy(2), processed=False), LocalEngine(toy(2))
    raw.open([A], 1, Law(), Meter())
    with pytest.raises(InvalidArgument, match="processed_logprobs"):
        raw.open([A], 1, Law(Sampling(0.5)), Meter())
    with pytest.raises(InvalidArgument, match="processed_logprobs"):
        raw.open([A], 1, Law(proposal=Sampling(1.5)), Meter())
    with pytest.raises(InvalidArgument, match="temperature=0.001"):
        engine.open([A], 1, Law(Sampling(0.001)), Meter())
    with pytest.raises(InvalidArgument, match="proposal"):
        engine.open([A], 1, Law(Sampling(0.5), proposal=Sampling(1.5)), Meter())
    with pytest.raises(InvalidArgument, match="can draw every token"):
        engine.open([A], 1, Law(proposal=Sampling(top_k=2)), Meter())
    mask = Law(factors=TokenMask(lambda ids: [0, 1]).factors())
    with pytest.raises(InvalidArgument, match="TokenMask.*Transformers"):
        engine.open([A], 1, mask, Meter())
    session = engine.open([A], 1, Law(proposal=Sampling(1.5)), Meter())
    with pytest.raises(InvalidArgument, match="ess"):
        session.extend(np.arange(1), Step(ess=0.5), np.full(1, 9), randomness(n=1))


def test_scores():
    engine, meter = LocalEngine(toy(2)), Meter()
    found = engine.score([A], [[1, 2], [], [EOS]], meter=meter)
    law = ToyEngine(2).law(TOKENS)
    np.testing.assert_allclose(found[2].sum(), law[(EOS,)])
    assert [len(x) for x in found] == [2, 0, 1]
    assert meter.read().tokens_prefilled == 5
    for bad in ({"sampling": Sampling(0.5)}, {"completions": [[99]]}, {"prompts": []}):
        with pytest.raises(InvalidArgument):
            engine.score(**{"prompts": [A], "completions": [[1]], **bad})
