"""Rewards on a server agree with the same models in this process, are asked once for each text, and fail clearly."""

import functools

import numpy as np
import pytest
import torch
import transformers as tf

from smcgen.core.cost import Meter
from smcgen.core.smc import smc
from smcgen.errors import InvalidArgument, RewardError, SmcgenError
from smcgen.text._http import ServerError
from smcgen.text.identity import identity
from smcgen.text.model import TextModel
from smcgen.text.potentials.tilt import Tilt
from smcgen.text.rewards import ClassifierReward, StepFormat
from smcgen.text.rewards.remote import RemoteReward
from smcgen.text.texts import Finish
from tests.text.build import build
from tests.text.engines.served import Server, serving, toy
from tests.text.rewards._prms import POLICY, byte_level, reference
from tests.text.rewards._texts import Writer
from tests.text.toy import ToyEngine
from tests.text.vllm_server import vllm_server
from tests.text.vllm_tiny import needs_vllm

pytest.importorskip("httpx")
PROMPTS = ["So 1+2? a", "Step on a plane."]
STEPS = ["Step 1. ab\n\n", "a\nab 1+1=2\n\n", "1é2.\n\n", " ab a.\n\n", "no\n\n"]
PRMS = ["token-1", "token-2", "token-sequence-1", "qwen", "skywork"]


class Pooling(Server):
    """A vLLM pooling server on a transformers model."""

    def __init__(self, model, tokenizer):
        super().__init__(toy(0))
        self.model, self.tokenizer, self.models = model, tokenizer, ["reward"]

    def post(self, path, body):
        data, count = [], 0
        assert body["use_activation"] is False
        if path == "/score":
            inputs = [a + b for a, b in zip(body["text_1"], body["text_2"], strict=True)]
        else:
            inputs = body["input"]
        for index, ids in enumerate(inputs):
            ids = self.tokenizer(ids)["input_ids"] if isinstance(ids, str) else ids
            count += len(ids)
            with torch.inference_mode():
                out = self.model(torch.tensor([ids])).logits[0].tolist()
            key = {"/score": "score", "/classify": "probs", "/pooling": "data"}[path]
            data.append({"index": index, key: out[0] if path == "/score" else out})
        data.reverse()  # an order is not promised
        return self.spoil({"data": data, "usage": {"prompt_tokens": count}})


@functools.cache
def classifier(labels: int):
    return build(tf.LlamaForSequenceClassification, len(POLICY), num_labels=labels)


def scored(reward, texts, meter=None, policy=POLICY):
    session = reward.open_reward(texts.prompts, texts.n, policy, meter or Meter())
    return session, session.score(texts, np.arange(len(texts)))


@pytest.mark.parametrize("name", PRMS)
@pytest.mark.parametrize("batch_size", [2, 32])
def test_process_rewards_agree_with_model_cards(name, batch_size):
    rng, ref = np.random.default_rng(0), reference(name)
    form = "token" if name.startswith("token") else name
    writer, meter = Writer(PROMPTS, 3, POLICY), Meter()
    with serving(Pooling(ref.model, ref.tokenizer)) as server:
        own = None if form == "token" else ref.tokenizer
        part = RemoteReward(server.url, format=form, tokenizer=own, batch_size=batch_size)
        assert part.probability
        session = part.open_reward(writer.prompts, 3, POLICY, meter)
        seen, tokens = set(), 0
        for _ in range(4):
            rows = np.arange(6)
            for row in rows:
                writer.add(row, STEPS[rng.integers(len(STEPS))])
            texts = writer.texts()
            scores = session.score(texts, rows)
            for row, score in zip(rows, scores, strict=True):
                steps = writer.steps[row]
                steps = steps if form == "token" else [POLICY.decode(s) for s in steps]
                prompt = writer.prompts[row // 3]
                assert score == pytest.approx(ref.score(prompt, steps), abs=2e-5)
                ids = tuple(ref.ids(prompt, steps))
                tokens += 0 if ids in seen else len(ids)
                seen.add(ids)
            ancestors = np.array([0, 0, 1, 3, 3, 3])
            writer.take(ancestors)
            session.take(ancestors)
        assert meter.read().reward_calls == len(seen)  # copies are asked about once
        assert meter.read().reward_tokens == tokens
        assert max(len(body["input"]) for body in server.asked) <= batch_size
        asked = len(server.asked)
        session.score(writer.texts(), np.arange(6))
        assert asked <= len(server.asked) <= asked + 3  # what was scored is remembered


@pytest.mark.parametrize("labels", [1, 2, 3])
@pytest.mark.parametrize("output", ["probability", "log_prob", "logit"])
def test_classifiers_agree(labels, output):
    texts = Writer.of(["ab a", "no no", "ab a", "1+1=2"], POLICY, ["So a"])
    model, label = classifier(labels), labels - 1
    want = ClassifierReward(model, POLICY, label, output)
    _, expected = scored(want, texts)
    with serving(Pooling(model, POLICY)) as server:
        got = RemoteReward(server.url, label=label, output=output)
        meter = Meter()
        _, scores = scored(got, texts, meter)
        np.testing.assert_allclose(scores, expected, atol=1e-5)
        assert meter.read().reward_calls == 3
        assert got.probability == (output == "probability") == want.probability
        assert len(server.asked) == 1
        _, again = scored(
            RemoteReward(server.url, label=label, output=output, endpoint="pooling"), texts
        )
        np.testing.assert_allclose(again, expected, atol=1e-5)
        alone = ClassifierReward(model, POLICY, label, output, reads="completion")
        completion = RemoteReward(server.url, label=label, output=output, reads="completion")
        np.testing.assert_allclose(scored(completion, texts)[1], scored(alone, texts)[1], atol=1e-5)
        if labels == 1:
            pair = RemoteReward(server.url, output=output, reads="pair")
            np.testing.assert_allclose(scored(pair, texts)[1], expected, atol=1e-5)


def test_chats_are_written_by_the_tokenizer():
    template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    tokenizer = byte_level(template=template)
    model = build(tf.LlamaForSequenceClassification, len(tokenizer), num_labels=1)
    texts = Writer.of(["ab a", "no"], POLICY, ["So a"])
    with serving(Pooling(model, tokenizer)) as server:
        reward = RemoteReward(server.url, tokenizer=tokenizer, reads="chat", output="logit")
        _, scores = scored(reward, texts)
        want = ClassifierReward(model, tokenizer, reads="chat", output="logit")
        np.testing.assert_allclose(scores, scored(want, texts)[1], atol=1e-5)
        with pytest.raises(InvalidArgument, match="chat template"):
            scored(RemoteReward(server.url, reads="chat"), texts)


@pytest.mark.slow
def test_it_steers():
    model = build(tf.LlamaForSequenceClassification, 5, num_labels=1)
    engine = ToyEngine(1)
    with serving(Pooling(model, engine.tokenizer)) as server:
        reward = RemoteReward(server.url, output="logit", reads="joined")
        run = smc(TextModel(engine, "a", Tilt(reward, 2.0), 1, 8, 4), 0, 16, ess_threshold=1.0)
        assert np.isfinite(run.log_evidence)
        assert run.cost.reward_calls > 0
        assert run.cost.reward_seconds > 0


def test_an_ended_text_keeps_its_score():
    ref = reference("qwen")
    with serving(Pooling(ref.model, ref.tokenizer)) as server:
        reward = RemoteReward(server.url, format="qwen", tokenizer=ref.tokenizer)
        writer = Writer(PROMPTS[:1], 1, POLICY)
        session = reward.open_reward(writer.prompts, 1, POLICY, Meter())
        writer.add(0, STEPS[0])
        first = session.score(writer.texts(), np.arange(1))
        writer.add(0, "", Finish.EOS)  # a step of nothing is no step of the solution
        assert session.score(writer.texts(), np.arange(1)) == first
        assert len(server.asked) == 1


def test_the_address_and_the_key_are_not_part_of_what_it_is():
    with (
        serving(Pooling(classifier(1), POLICY)) as one,
        serving(Pooling(classifier(1), POLICY)) as two,
    ):
        a = RemoteReward(one.url, api_key="sk-secret-123")
        b = RemoteReward(two.url)
        assert identity(a) == identity(b) != identity(RemoteReward(one.url, output="logit"))
        assert "secret" not in repr(a) + identity(a)
        assert one.url not in identity(a)
        assert a.model == "reward"


BAD = {
    "no data": (lambda a: {}, "without scores"),
    "one too few": (lambda a: {**a, "data": a["data"][1:]}, "were asked for"),
    "another order": (
        lambda a: {**a, "data": [{**d, "index": 7} for d in a["data"]]},
        "were asked",
    ),
    "NaN": (lambda a: {**a, "data": [{**d, "probs": [float("nan")]} for d in a["data"]]}, "nan"),
    "text": (lambda a: {**a, "data": [{**d, "probs": "high"} for d in a["data"]]}, "high"),
    "nothing": (lambda a: {**a, "data": [{**d, "probs": []} for d in a["data"]]}, "finite"),
    "null": (lambda a: {**a, "data": [{**d, "probs": None} for d in a["data"]]}, "finite"),
    "two labels": (
        lambda a: {**a, "data": [{**d, "probs": [0.1, 0.2]} for d in a["data"]]},
        "label=None.*2 labels",
    ),
}


@pytest.mark.parametrize(("spoil", "message"), BAD.values(), ids=BAD)
def test_nonsense_is_one_clear_error(spoil, message):
    texts = Writer.of(["ab a", "no no"], POLICY, ["So a"])
    with serving(Pooling(classifier(1), POLICY)) as server:
        server.spoil = spoil
        with pytest.raises((RewardError, InvalidArgument), match=message):
            scored(RemoteReward(server.url), texts)


def test_a_server_that_refuses():
    texts = Writer.of(["ab a"], POLICY, ["So a"])
    with serving(Pooling(classifier(1), POLICY)) as server:
        reward = RemoteReward(server.url)
        server.faults = [(400, b'{"error": {"message": "too long"}}', {})]
        with pytest.raises(ServerError, match="too long") as caught:
            scored(reward, texts)
        assert isinstance(caught.value, SmcgenError)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"format": "math-shepherd"}, "format.*words"),
        ({"format": "token", "label": 1}, "format.*label"),
        ({"format": "token", "endpoint": "classify"}, "format.*endpoint"),
        ({"format": "other"}, "format"),
        ({"output": "other"}, "output"),
        ({"reads": "other"}, "reads"),
        ({"endpoint": "other"}, "endpoint"),
        ({"endpoint": "score"}, "endpoint.*pair"),
        ({"reads": "pair", "endpoint": "pooling"}, "endpoint.*pair"),
        ({"batch_size": 0}, "batch_size"),
        ({"model": "other"}, "model.*'reward'"),
    ],
)
def test_choices_that_do_not_go_together(options, message, unchecked):
    with (
        serving(Pooling(classifier(1), POLICY)) as server,
        pytest.raises(InvalidArgument, match=message),
    ):
        RemoteReward(server.url, **options)


def test_ids_pass_only_between_equal_vocabularies():
    with serving(Pooling(classifier(1), POLICY)) as server:
        reward = RemoteReward(server.url, format=StepFormat("mine", "ids"), tokenizer=byte_level())
        with pytest.raises(InvalidArgument, match="vocabulary"):
            reward.open_reward([], 1, POLICY, Meter())


@needs_vllm
@pytest.mark.long  # the server's own time is not measured
@pytest.mark.filterwarnings("ignore")
def test_a_vllm_pooling_server(tmp_path):
    shape = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    model = build(tf.Qwen2ForTokenClassification, len(POLICY), num_labels=2, **shape)
    model.save_pretrained(tmp_path / "model")
    POLICY.save_pretrained(tmp_path / "model")
    writer = Writer(PROMPTS, 2, POLICY)
    for row in range(4):
        writer.add(row, STEPS[row])
        writer.add(row, STEPS[row + 1])
    texts = writer.texts()
    with vllm_server(tmp_path / "model", tmp_path / "log", "--runner", "pooling") as url:
        _, scores = scored(RemoteReward(url, format="token", batch_size=3), texts)
        for row, score in enumerate(scores):
            ids = [*writer.prompts[row // 2].ids, *texts.tokens(row)]
            with torch.inference_mode():
                out = model(torch.tensor([ids])).logits[0, -1].softmax(-1)
            assert score == pytest.approx(float(out[1]), abs=1e-4)
        with pytest.raises(ServerError, match="400|404|500|501"):
            scored(RemoteReward(url, retries=0), texts)  # no classifier of texts
