"""Rewards through vLLM: the scores of transformers, from threads, beside other engines, until they die."""

import importlib.util
import itertools
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import transformers as tf

from smcgen.core.cost import Meter
from smcgen.core.smc import smc
from smcgen.errors import EngineError, InvalidArgument, MissingExtra, RewardError
from smcgen.text import TextModel, Transformers
from smcgen.text.identity import identity
from smcgen.text.rewards import ClassifierReward, ProcessReward, StepFormat
from smcgen.text.rewards.vllm import VLLMClassifierReward, VLLMProcessReward
from tests.text import vllm_tiny
from tests.text.build import build
from tests.text.rewards._prms import NAMES, POLICY, byte_level, reference
from tests.text.rewards._texts import Writer
from tests.text.rewards.test_classifier import classifier_tokenizer, run
from tests.text.vllm_tiny import SMALL

MODELS = Path(__file__).parents[3] / "models"
_MARKS = [
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed"),
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore"),  # importing and building vLLM is full of deprecations
]


def real(test):
    """A test that runs vLLM."""
    for mark in _MARKS:
        test = mark(test)
    return test


WIDE = {"hidden_size": 128, "initializer_range": 0.1}  # vLLM's CPU attention wants heads of 32
STEPS = ["Step 1. ab\n\n", "a\nab 1+1=2\n\n", "1é2.\n\n", " ab a.\n\n", "no\n\n"]
PROMPTS = ["So 1+2? a", "Step on a plane.", "So 1+2? a"]


def saved(folder, model, tokenizer):
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def decoded(writer, row, form):
    """A row's steps as the reference reads them: ids, or text for a format."""
    steps = writer.steps[row]
    return steps if form is None else [POLICY.decode(s) for s in steps]


@real
@pytest.mark.parametrize("name", NAMES)
def test_the_same_scores_as_by_the_model_card(name, tmp_path):
    rng, n = np.random.default_rng(0), 3
    ref = reference(name, **WIDE)
    form = None if name.startswith("token") else name
    writer = Writer(PROMPTS, n, POLICY)
    folder = saved(tmp_path, ref.model, ref.tokenizer)
    with VLLMProcessReward(folder, ref.tokenizer, form, **SMALL) as part:
        meter = Meter()
        session = part.open_reward(writer.prompts, n, POLICY, meter)
        full = 0
        for _ in range(6):
            rows = rng.permutation(3 * n)[: rng.integers(1, 3 * n + 1)]
            for row in rows:
                for _ in range(rng.integers(1, 4)):
                    writer.add(row, STEPS[rng.integers(len(STEPS))])
            scores = session.score(writer.texts(), rows)
            for row, score in zip(rows, scores, strict=True):
                steps = decoded(writer, row, form)
                prompt = writer.prompts[row // n]
                assert score == pytest.approx(ref.score(prompt, steps), abs=1e-3)
                full += len(ref.ids(prompt, steps))
            again = session.score(writer.texts(), rows)
            np.testing.assert_array_equal(again, scores)
            mark, ahead = session.mark(), writer.ahead(rows[:1], STEPS[0])
            session.score(ahead.texts(), rows[:1])
            full += len(ref.ids(ahead.prompts[rows[0] // n], decoded(ahead, rows[0], form)))
            session.rewind(mark)
            ancestors = np.concatenate([rng.integers(p * n, p * n + n, n) for p in range(3)])
            session.take(ancestors)
            writer.take(ancestors)
        cost = meter.read()
        assert 0 < cost.reward_tokens < 0.6 * full


@pytest.fixture(autouse=True)
def light(request):
    if request.node.get_closest_marker("slow"):
        vllm_tiny.light()


@pytest.fixture(scope="module")
def tape():
    with VLLMProcessReward(MODELS / "tape-prm-good", **SMALL) as part:
        yield part


@pytest.fixture(scope="module")
def prm():
    return ProcessReward(MODELS / "tape-prm-good")


def growing(seed, part, tokenizer, rounds=4, n=8, meter=None):
    """Scores of texts that grow and are resampled, shape (rounds, n)."""
    rng = np.random.default_rng(seed)
    words = [tokenizer.decode([i]) for i in range(3, 20)]
    writer = Writer(["".join(rng.choice(words, 40))], n, tokenizer)
    session = part.open_reward(writer.prompts, n, tokenizer, meter or Meter())
    scores = []
    for _ in range(rounds):
        for row in range(n):
            writer.add(row, rng.integers(3, 20, rng.integers(5, 15)).tolist())
        scores.append(session.score(writer.texts(), np.arange(n)))
        ancestors = rng.integers(0, n, n)
        session.take(ancestors)
        writer.take(ancestors)
    session.close()
    return np.array(scores)


@real
def test_a_shipped_model_and_what_a_step_costs(tape, prm):
    one, two = Meter(), Meter()
    scores = growing(0, tape, prm.tokenizer, meter=one)
    np.testing.assert_allclose(scores, growing(0, prm, prm.tokenizer, meter=two), atol=1e-3)
    new, read = two.read().reward_tokens, one.read().reward_tokens
    assert new <= read <= new + 32 * scores.size  # the block that new tokens begin in
    assert one.read().reward_calls == two.read().reward_calls == scores.size


@real
def test_equal_texts_are_asked_once(tape, prm):
    meter = Meter()
    writer = Writer(["ab"], 4, prm.tokenizer)
    session = tape.open_reward(writer.prompts, 4, prm.tokenizer, meter)
    for row, last in enumerate((5, 5, 6, 5)):
        writer.add(row, [3, 4, last])
    scores = session.score(writer.texts(), np.arange(4))
    assert meter.read().reward_calls == 2
    assert scores[0] == scores[1] == scores[3] != scores[2]
    writer.add(2, [prm.tokenizer.eos_token_id])
    assert session.score(writer.texts(), np.asarray([2]))[0] != scores[2]
    assert meter.read().reward_calls == 3


@real
def test_threads_share_batches_and_mix_nothing_up(tape, prm):
    count, rounds = 8, 4
    wanted = [growing(k, prm, prm.tokenizer, rounds) for k in range(count)]
    found, before, gate = {}, tape._server.batches, threading.Barrier(count)

    def work(k):
        gate.wait()
        found[k] = growing(k, tape, prm.tokenizer, rounds)

    threads = [threading.Thread(target=work, args=(k,)) for k in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for k in range(count):
        np.testing.assert_allclose(found[k], wanted[k], atol=1e-3)
    assert tape._server.batches - before < count * rounds * 0.75


@real
def test_steps_beside_a_policy_on_vllm_in_the_same_process(tape, prm):
    """Two engines step in two threads, and the end of one is not the end of the other."""
    from vllm import LLM, SamplingParams

    options = {"dtype": "float32", "enforce_eager": True, "block_size": 32}
    policy = LLM(str(MODELS / "tape-policy"), max_model_len=256, **options | SMALL)
    params = SamplingParams(max_tokens=20, temperature=0, ignore_eos=True, detokenize=False)
    prompts = [{"prompt_token_ids": [1, 3 + k, 4]} for k in range(16)]
    write = lambda: [
        o.outputs[0].token_ids for o in policy.generate(prompts, params, use_tqdm=False)
    ]
    texts, other = write(), VLLMProcessReward(MODELS / "tape-prm-good", **SMALL)
    wanted, found = growing(0, prm, prm.tokenizer), []
    thread = threading.Thread(target=lambda: found.extend(write() for _ in range(2)))
    thread.start()
    while thread.is_alive():
        np.testing.assert_allclose(growing(0, other, prm.tokenizer), wanted, atol=1e-3)
    assert found == [texts] * 2
    other.close()
    other.close()
    assert write() == texts
    np.testing.assert_allclose(growing(0, tape, prm.tokenizer), wanted, atol=1e-3)
    with pytest.raises(EngineError, match="closed"):
        growing(0, other, prm.tokenizer)
    policy.llm_engine.engine_core.shutdown()
    np.testing.assert_allclose(
        growing(1, tape, prm.tokenizer), growing(1, prm, prm.tokenizer), atol=1e-3
    )


@real
def test_a_run_is_the_run_with_transformers(tape, prm):
    policy = Transformers(MODELS / "tape-policy")
    runs = [smc(TextModel(policy, "R3 D2 =", p, "\n", 8, 80), 0, 8) for p in (prm, tape)]
    assert [r.particles.text(0) for r in runs[:1]] == [r.particles.text(0) for r in runs[1:]]
    np.testing.assert_allclose(runs[0].log_evidence, runs[1].log_evidence, atol=1e-2)
    assert len(identity(tape)) < 2000
    assert identity(tape) == identity(tape)


@real
def test_an_interrupt_leaves_the_engine_usable(tape, prm, monkeypatch):
    engine = tape._server._llm.llm_engine
    step, calls = engine.step, []

    def interrupted():
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return step()

    monkeypatch.setattr(engine, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        growing(7, tape, prm.tokenizer)
    np.testing.assert_allclose(
        growing(7, tape, prm.tokenizer), growing(7, prm, prm.tokenizer), atol=1e-3
    )


@real
def test_a_death_is_told_to_all_and_an_engine_from_outside_is_left_alone(tape, prm, monkeypatch):
    llm = tape._server._llm
    with VLLMProcessReward(llm) as part:
        scores = growing(3, part, prm.tokenizer)
        np.testing.assert_allclose(scores, growing(3, prm, prm.tokenizer), atol=1e-3)
        with monkeypatch.context() as patch:
            patch.setattr(llm, "encode", lambda *_, **__: 1 / 0)
            with pytest.raises(EngineError, match="gone .ZeroDivisionError"):
                growing(3, part, prm.tokenizer)
        with pytest.raises(EngineError, match="make the reward again"):
            growing(3, part, prm.tokenizer)
    growing(3, tape, prm.tokenizer)
    with pytest.raises(InvalidArgument, match="built already"):
        VLLMProcessReward(llm, max_model_len=8)
    with pytest.raises(InvalidArgument, match="runner='generate'"):
        VLLMProcessReward(llm, prm.tokenizer, StepFormat("mine", "ids", words=("1", "0")))
    for field, value in (("seq_pooling_type", "MEAN"), ("seq_pooling_type", "CLS")):
        monkeypatch.setattr(llm.model_config.pooler_config, field, value)
        with pytest.raises(InvalidArgument, match="seq_pooling_type='LAST'"):
            VLLMProcessReward(llm)


@real
def test_classifiers(tmp_path):
    tokenizer = classifier_tokenizer()
    shape = {**WIDE, "max_position_embeddings": 64, "pad_token_id": tokenizer.pad_token_id}
    for kind, labels in (
        (tf.Qwen2ForSequenceClassification, 3),
        (tf.BertForSequenceClassification, 2),
    ):
        model = build(kind, len(tokenizer), num_labels=labels, **shape)
        folder = saved(tmp_path / kind.__name__, model, tokenizer)
        with VLLMClassifierReward(folder, tokenizer, 1, **SMALL) as part:
            assert part.probability
            meter = Meter()
            for reads in ("joined", "pair", "chat", "completion"):
                for output in ("logit", "log_prob", "probability"):
                    part._set(reads=reads, output=output)
                    wanted = run(ClassifierReward(model, tokenizer, 1, output, reads=reads))
                    np.testing.assert_allclose(run(part, meter=meter), wanted, atol=1e-3)
            assert meter.read().reward_calls == 3 * 12
            assert len({identity(part), identity(part)}) == 1
            with pytest.raises(RewardError, match="truncate=True"):
                run(part, ["b" * 200])
            with pytest.raises(InvalidArgument, match="'LABEL_1'"):
                VLLMClassifierReward(part._server._llm, tokenizer, "good")


@real
def test_what_does_not_fit_says_so(tmp_path, tape, prm):
    writer = Writer(["ab"], 1, prm.tokenizer)
    session = tape.open_reward(writer.prompts, 1, prm.tokenizer, Meter())
    writer.add(0, [3] * 300)
    with pytest.raises(RewardError, match="longer than the 256"):
        session.score(writer.texts(), np.asarray([0]))
    with pytest.raises(InvalidArgument, match="vocabulary is not the policy's"):
        tape.open_reward(writer.prompts, 1, byte_level(), Meter())
    for options, message in (
        ({"no_such": 1}, "^no_such=1 .*an engine argument of vLLM's$"),
        ({"max_num_seqs": "many"}, "^max_num_seqs='many' .*valid integer"),
        ({"dtype": "float77"}, "^dtype='float77' .*'bfloat16'"),
        ({"max_model_len": 1000}, "^max_model_len=1000 .*=256"),
    ):
        with pytest.raises(InvalidArgument, match=message):
            VLLMProcessReward(MODELS / "tape-prm-good", **options)
    with pytest.raises(InvalidArgument, match="does not say"):
        VLLMProcessReward(MODELS / "tape-policy")
    with pytest.raises(InvalidArgument, match="model='no/such-model'"):
        VLLMProcessReward("no/such-model")
    model = build(tf.BertForTokenClassification, len(prm.tokenizer), num_labels=1)
    model.config.architectures = ["NobodysForTokenClassification"]
    model.config.save_pretrained(tmp_path)
    with pytest.raises(InvalidArgument, match="vLLM can serve .*NobodysForTokenClassification"):
        VLLMProcessReward(tmp_path, prm.tokenizer)


def test_missing_vllm_says_so(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "vllm" else find(n))
    for kind in (VLLMProcessReward, VLLMClassifierReward):
        with pytest.raises(MissingExtra, match=r"smcgen\[vllm\]"):
            kind(MODELS / "tape-prm-good")


def test_turns_are_first_come_first_served():
    from smcgen.text.engines._vllm_shared import Turns

    turns, order = Turns(), []

    def greedy(name, count):
        for _ in range(count):
            with turns, turns:
                order.append(name)
                time.sleep(0.002)

    threads = [threading.Thread(target=greedy, args=(k, 10)) for k in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    both = order[order.index("b") if order[0] == "a" else order.index("a") :][:8]
    assert all(x != y for x, y in itertools.pairwise(both))
    assert not turns._queue
