"""Classifiers as rewards: any body, any reading, each text once."""

import numpy as np
import pytest
import torch
import transformers as tf
from jaxtyping import TypeCheckError

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument, RewardError
from smcgen.text.prompts import Prompt
from smcgen.text.rewards import ClassifierReward
from tests.text.build import build
from tests.text.factors._vocab import byte_tokenizer
from tests.text.rewards._prms import CHATML
from tests.text.rewards._texts import Writer

POLICY = byte_tokenizer()
COMPLETIONS = ["b", "a longer text", "b", "mid"]


def classifier_tokenizer(pad=True):
    tokenizer = byte_tokenizer([("a", "b")])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    tokenizer.chat_template = CHATML
    tokenizer.model_max_length = 64
    if pad:
        tokenizer.add_special_tokens({"pad_token": "<pad>"})
    return tokenizer


def bert(labels, **kw):
    tokenizer = classifier_tokenizer()
    kw |= {"num_labels": labels, "pad_token_id": tokenizer.pad_token_id}
    kind = tf.BertForSequenceClassification
    return build(kind, len(tokenizer), max_position_embeddings=64, **kw), tokenizer


def qwen2(labels, pad=True, **kw):
    tokenizer = classifier_tokenizer(pad)
    kw |= {"num_labels": labels, "pad_token_id": tokenizer.pad_token_id if pad else None}
    return build(tf.Qwen2ForSequenceClassification, len(tokenizer), **kw), tokenizer


def run(part, completions=COMPLETIONS, prompts=("ab?",), meter=None):
    texts = Writer.of(completions, POLICY, prompts, len(completions) // len(prompts))
    session = part.open_reward(texts.prompts, texts.n, POLICY, meter or Meter())
    return session.score(texts, np.arange(len(texts)))


@torch.inference_mode()
def logits(model, tokenizer, *text):
    return model(**tokenizer(*text, return_tensors="pt")).logits[0].double()


@pytest.mark.parametrize("make", [bert, qwen2])
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_each_text_is_scored_as_it_would_be_alone(make, batch_size):
    model, tokenizer = make(3)
    meter = Meter()
    part = ClassifierReward(model, tokenizer, "LABEL_2", batch_size=batch_size)
    assert part.probability
    scores = run(part, meter=meter)
    alone = [logits(model, tokenizer, "ab?" + c).softmax(-1)[2] for c in COMPLETIONS]
    np.testing.assert_allclose(scores, alone, atol=1e-6)
    cost = meter.read()
    assert cost.reward_calls == 3  # "b" came twice
    assert cost.reward_tokens == sum(
        len(tokenizer("ab?" + c)["input_ids"]) for c in COMPLETIONS[1:]
    )


def test_outputs():
    model, tokenizer = bert(2, id2label={0: "bad", 1: "good"}, label2id={"bad": 0, "good": 1})
    model = model.double()  # in float32 batches of other shapes differ by more on some processors
    raw = torch.stack([logits(model, tokenizer, "ab?" + c) for c in COMPLETIONS])
    for output, wanted in {
        "logit": raw[:, 1],
        "probability": raw.softmax(-1)[:, 1],
        "log_prob": raw.log_softmax(-1)[:, 1],
    }.items():
        part = ClassifierReward(model, tokenizer, "good", output)
        np.testing.assert_allclose(run(part), wanted, atol=1e-6)
        assert part.probability == (output == "probability")
    one, tokenizer = qwen2(1)
    raw = torch.stack([logits(one, tokenizer, "ab?" + c)[0] for c in COMPLETIONS])
    part = ClassifierReward(one, tokenizer)
    assert not part.probability
    np.testing.assert_allclose(run(part), raw, atol=1e-5)
    part = ClassifierReward(one, tokenizer, output="probability")
    np.testing.assert_allclose(run(part), raw.sigmoid(), atol=1e-6)
    many, tokenizer = bert(3, problem_type="multi_label_classification")
    raw = torch.stack([logits(many, tokenizer, "ab?" + c)[1] for c in COMPLETIONS])
    np.testing.assert_allclose(run(ClassifierReward(many, tokenizer, 1)), raw.sigmoid(), atol=1e-6)


def test_decoders_without_padding_read_one_at_a_time():
    model, tokenizer = qwen2(1, pad=False)
    alone = [logits(model, tokenizer, "ab?" + c)[0] for c in COMPLETIONS]
    np.testing.assert_allclose(run(ClassifierReward(model, tokenizer)), alone, atol=1e-5)


def test_what_is_read():
    model, tokenizer = bert(1)
    pair = ClassifierReward(model, tokenizer, reads="pair")
    alone = [logits(model, tokenizer, "ab?", c)[0] for c in COMPLETIONS]
    np.testing.assert_allclose(run(pair), alone, atol=1e-5)
    chat = ClassifierReward(model, tokenizer, reads="chat")
    messages = ({"role": "system", "content": "S"}, {"role": "user", "content": "ab?"})
    for prompt in ("ab?", Prompt((1, 2), "ab?", messages)):
        before = prompt.messages if isinstance(prompt, Prompt) else messages[1:]
        wanted = []
        for c in COMPLETIONS:
            whole = [*before, {"role": "assistant", "content": c}]
            ids = tokenizer.apply_chat_template(whole, return_tensors="pt", return_dict=True)
            with torch.inference_mode():
                wanted.append(model(**ids).logits[0, 0])
        np.testing.assert_allclose(run(chat, prompts=(prompt,)), wanted, atol=1e-5)
    meter = Meter()
    completion = ClassifierReward(model, tokenizer, reads="completion")
    scores = run(completion, ["b", "", "b", ""], ("ab?", "no"), meter)
    assert scores[0] == scores[2]
    assert scores[1] == scores[3]
    assert meter.read().reward_calls == 2  # the prompt does not matter


def test_long_texts_are_refused_or_cut():
    model, tokenizer = bert(1)
    long = ["b" * 200]
    with pytest.raises(RewardError, match=r"202 tokens .* 64: pass truncate=True"):
        run(ClassifierReward(model, tokenizer), long)
    ids = tokenizer("ab?" + long[0], truncation=True, max_length=64, return_tensors="pt")
    with torch.inference_mode():
        wanted = model(**ids).logits[0, 0]
    np.testing.assert_allclose(
        run(ClassifierReward(model, tokenizer, truncate=True), long), wanted, atol=1e-5
    )


def test_loads_by_path(tmp_path):
    model, tokenizer = qwen2(2)
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    scores = run(ClassifierReward(tmp_path, label=1))
    np.testing.assert_allclose(scores, run(ClassifierReward(model, tokenizer, 1)), atol=1e-6)


def test_bad_arguments():
    model, tokenizer = bert(2)
    bad = (InvalidArgument, TypeCheckError)
    with pytest.raises(InvalidArgument, match="'LABEL_0', 'LABEL_1'"):
        ClassifierReward(model, tokenizer, "good")
    for kwargs in (
        {"label": None},
        {"label": 2},
        {"label": 1, "output": "score"},
        {"label": 1, "reads": "all"},
        {"label": 1, "batch_size": 0},
        {"label": 1, "tokenizer": None},
    ):
        with pytest.raises(bad):
            ClassifierReward(**{"model": model, "tokenizer": tokenizer, **kwargs})
    tokenizer.chat_template = None
    with pytest.raises(InvalidArgument, match="chat template"):
        ClassifierReward(model, tokenizer, 1, reads="chat")


def test_closing_forgets_the_scores():
    model, tokenizer = bert(1)
    texts = Writer.of(COMPLETIONS, POLICY, ("ab?",))
    session = ClassifierReward(model, tokenizer).open_reward(
        texts.prompts, texts.n, POLICY, Meter()
    )
    session.score(texts, np.arange(len(texts)))
    session.close()
    assert len(session._cache._scores) == 0
