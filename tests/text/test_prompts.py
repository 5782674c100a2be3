"""What a prompt, a step and a law can be given as, and what the errors say."""

import numpy as np
import pytest
import torch

from smcgen.errors import InvalidArgument
from smcgen.text import Sampling, Step, TextModel
from smcgen.text.prompts import Prompt, encode_all, is_single
from smcgen.text.steps import as_step
from tests.text.toy import ToyEngine, ToyTokenizer

IDS = [0, 1, 2]


@pytest.mark.parametrize(
    "ids",
    [
        IDS,
        tuple(IDS),
        range(3),
        np.array(IDS),
        np.array(IDS, np.uint8),
        [np.int64(i) for i in IDS],
        torch.tensor(IDS),
        list(torch.tensor(IDS)),
    ],
    ids=lambda x: type(x).__name__,
)
def test_token_ids_in_any_form(ids):
    assert is_single(ids)
    (prompt,) = encode_all(ToyTokenizer(), ids)
    assert prompt == Prompt((0, 1, 2), "ab.")
    assert all(type(i) is int for i in prompt.ids)


@pytest.mark.parametrize(
    "prompts",
    [
        ["ab.", "b"],
        ("ab.", "b"),
        (p for p in ["ab.", "b"]),
        np.array(["ab.", "b"]),
        [np.array(IDS), "b"],
        [IDS, torch.tensor([1])],
        [Prompt((0, 1, 2), "ab."), "b"],
    ],
    ids=lambda x: type(x).__name__,
)
def test_many_prompts(prompts):
    assert not is_single(prompts)
    assert [p.text for p in encode_all(ToyTokenizer(), prompts)] == ["ab.", "b"]


def test_rows_of_an_array_are_prompts():
    assert [p.ids for p in encode_all(ToyTokenizer(), np.array([IDS, IDS]))] == [(0, 1, 2)] * 2


def test_a_generator_of_prompts_is_read_once():
    model = TextModel(ToyEngine(), (p for p in ["a", "b"]))
    assert model.num_problems == 2
    assert [p.text for p in model.prompts] == ["a", "b"]


@pytest.mark.parametrize(
    "prompt",
    [
        None,
        3,
        2.5,
        True,
        b"ab",
        {"role": "user", "content": "a"},
        [None],
        [0, 1.5],
        [0, "a"],
        ["a", None],
        [True, False],
        np.array([0.5, 1.0]),
        np.array(3),
        [{"role": "user", "content": "a"}, "b"],
        object(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_refused(prompt):
    with pytest.raises(InvalidArgument, match="^prompt="):
        encode_all(ToyTokenizer(), prompt)


def test_steps_of_numpy_integers():
    assert as_step(np.int64(3)) == Step(tokens=3)
    assert type(as_step(np.int8(3)).tokens) is int
    assert as_step(["\n", "."]) == Step(delimiters=("\n", "."))


@pytest.mark.parametrize(
    "step", [None, 0, -1, np.int64(0), 2.5, True, "", [], [""], ["a", 3]], ids=repr
)
def test_steps_that_are_refused(step):
    with pytest.raises(InvalidArgument, match="^step=") as caught:
        as_step(step)
    assert caught.value.name == "step"


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("tokens", [0, 2.5, "3", True], ids=repr)
def test_a_steps_tokens_are_a_number(tokens):
    with pytest.raises(InvalidArgument, match="^tokens="):
        Step(tokens=tokens)


@pytest.mark.usefixtures("unchecked")
def test_a_law_of_numpy_numbers_is_the_law_of_pythons():
    law = Sampling(np.float32(0.5), np.int64(3), np.float64(0.75))
    assert repr(law) == repr(Sampling(0.5, 3, 0.75))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("temperature", "hot"),
        ("temperature", None),
        ("temperature", True),
        ("temperature", float("nan")),
        ("top_p", "0.9"),
        ("top_p", None),
        ("top_k", 2.5),
        ("top_k", "3"),
        ("top_k", True),
        ("top_k", 0),
    ],
)
def test_laws_that_are_refused(name, value):
    with pytest.raises(InvalidArgument, match=f"^{name}="):
        Sampling(**{name: value})
