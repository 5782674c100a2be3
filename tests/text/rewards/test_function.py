"""Function rewards: one call per step, each text once, and errors that say where."""

import jax.numpy as jnp
import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument, RewardError
from smcgen.text.rewards import FunctionReward
from tests.text.factors._vocab import char_tokenizer
from tests.text.rewards._texts import Writer

TOKENIZER = char_tokenizer("ab0-\n")


def run(reward, completions, prompts=("a",), n=None):
    texts = Writer.of(completions, TOKENIZER, prompts, n)
    meter = Meter()
    session = reward.open_reward(texts.prompts, texts.n, TOKENIZER, meter)
    return session.score(texts, np.arange(len(texts))), meter


@pytest.mark.parametrize(
    "wrap",
    [
        list,
        tuple,
        np.asarray,
        lambda x: np.asarray(x, np.int8),
        torch.tensor,
        lambda x: torch.tensor(x, dtype=torch.bfloat16, requires_grad=True),
        lambda x: [torch.tensor(v) for v in x],
        jnp.asarray,
        lambda x: jnp.asarray(x, jnp.bfloat16),
        lambda x: [jnp.asarray(v) for v in x],
        lambda x: [np.float32(v) for v in x],
    ],
)
def test_any_kind_of_numbers(wrap):
    scores, _ = run(FunctionReward(lambda texts: wrap([float(len(t)) for t in texts])), ["a", "ab"])
    assert scores.dtype == np.float64
    assert scores.tolist() == [1, 2]


def test_equal_texts_are_scored_once_and_remembered():
    calls = []

    def fn(texts):
        calls.append(list(texts))
        return [len(t) for t in texts]

    writer = Writer(["a", "b"], 3, TOKENIZER)
    meter = Meter()
    session = FunctionReward(fn).open_reward(writer.prompts, 3, TOKENIZER, meter)
    for row, text in enumerate(["a", "a", "ab", "ab", "a", "a"]):
        writer.add(row, text)
    assert session.score(writer.texts(), np.arange(6)).tolist() == [1, 1, 2, 2, 1, 1]
    assert calls == [["a", "ab"]]
    ancestors = np.asarray([2, 2, 0, 3, 3, 3])
    writer.take(ancestors)
    session.take(ancestors)
    writer.add(0, "0")
    assert session.score(writer.texts(), np.arange(6)).tolist() == [3, 2, 1, 2, 2, 2]
    assert calls[1:] == [["ab0"]]
    assert meter.read().reward_calls == 3


def test_prompts_are_part_of_the_content_when_the_function_sees_them():
    calls = []

    def fn(prompts, texts):
        calls.append((prompts, texts))
        return [len(p) + 10 * len(t) for p, t in zip(prompts, texts, strict=True)]

    scores, meter = run(FunctionReward(fn, prompts=True), ["a"] * 4, ["a", "bb"], 2)
    assert scores.tolist() == [11, 11, 12, 12]
    assert calls == [(["a", "bb"], ["a", "a"])]
    assert meter.read().reward_calls == 2
    ids, _ = run(
        FunctionReward(lambda p, t: [p[0][0] + t[0][0]] * len(t), on="ids", prompts=True), ["b"]
    )
    assert ids.tolist() == [1 + 2]


def test_on_texts_sees_steps():
    def fn(texts, rows):
        return [len(texts.steps(int(r))) for r in rows]

    reward = FunctionReward(fn, on="texts")
    scores, meter = run(reward, ["a", "a"])
    assert scores.tolist() == [1, 1]
    assert meter.read().reward_calls == 2


def test_the_cache_is_bounded():
    calls = []
    reward = FunctionReward(lambda t: [calls.append(x) or 0.0 for x in t], cache=1)
    texts = Writer.of(["a", "b", "a"], TOKENIZER)
    session = reward.open_reward(texts.prompts, 3, TOKENIZER, Meter())
    for _ in range(2):
        session.score(texts, np.arange(3))
    assert calls == ["a", "b", "a"]  # the second time, only "b" was still known
    assert len(session._cache._scores) == 1


def test_special_values_pass_through():
    scores, _ = run(FunctionReward(lambda t: [-np.inf, np.nan, np.inf]), ["a", "b", "0"])
    np.testing.assert_array_equal(scores, [-np.inf, np.nan, np.inf])


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        ([1.0], r"shape \(1,\): expected 2 numbers"),
        (1.0, r"shape \(\): expected 2 numbers"),
        ([[1.0], [2.0]], r"shape \(2, 1\)"),
        (["1", "2"], "returned list"),
        (None, "returned NoneType"),
        ([None, 1.0], "returned list"),
        ({"a": 1.0, "b": 2.0}, "returned dict"),
        ([1j, 2j], "returned list"),
        ([[1.0], [2.0, 3.0]], "returned list"),
        ((x for x in [1.0, 2.0]), "returned generator"),
    ],
)
def test_what_is_not_one_number_per_text(returned, message):
    with pytest.raises(RewardError, match=message):
        run(FunctionReward(lambda texts: returned), ["a", "ab"])


def test_a_failure_names_its_particle():
    def fn(prompts, texts):
        return [1 / (text != "ab") for text in texts]

    with pytest.raises(RewardError, match="particle 1 of problem 1: ZeroDivisionError") as caught:
        run(FunctionReward(fn, prompts=True), ["a", "b", "0", "ab"], ["a", "b0"], 2)
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
    assert "'b0'" in str(caught.value)
    assert "'ab'" in str(caught.value)
    assert "test_a_failure_names_its_particle" in str(caught.value)


def test_a_failure_of_the_batch_alone():
    def fn(texts):
        if len(texts) > 1:
            raise MemoryError("too many")
        return [0.0]

    with pytest.raises(RewardError, match="none of them alone: MemoryError: too many"):
        run(FunctionReward(fn), ["a", "b"])
    with pytest.raises(RewardError, match="failed on 2 texts: ValueError"):
        run(FunctionReward(lambda t, r: (_ for _ in ()).throw(ValueError("no")), on="texts"), "ab")


@pytest.mark.parametrize(
    "kwargs", [{"fn": 3}, {"on": "words"}, {"on": "texts", "prompts": True}, {"cache": -1}]
)
def test_bad_arguments(kwargs):
    with pytest.raises((InvalidArgument, TypeCheckError)):
        FunctionReward(**{"fn": len, **kwargs})


@pytest.mark.parametrize(("count", "calls"), [(1, 1), (3, 1 + 2)])
def test_a_failure_is_asked_about_only_where_there_is_a_choice(count, calls):
    seen = []

    def fn(texts):
        seen.append(texts)
        if "b" in texts:
            raise ValueError("no")
        return [0.0 for _ in texts]

    with pytest.raises(RewardError, match="particle . of problem 0: ValueError: no.*'b'") as caught:
        run(FunctionReward(fn), ["a", "b", "0"][:count] if count > 1 else ["b"])
    assert len(seen) == calls
    assert isinstance(caught.value.__cause__, ValueError)


def test_closing_forgets_the_scores():
    texts = Writer.of(["a", "b"], TOKENIZER)
    session = FunctionReward(lambda t: [0.0] * len(t)).open_reward(
        texts.prompts, 2, TOKENIZER, Meter()
    )
    session.score(texts, np.arange(2))
    session.close()
    assert len(session._cache._scores) == 0
