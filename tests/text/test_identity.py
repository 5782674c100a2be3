"""What tells two runs apart: code, constants, closures, weights; never where something lies in memory."""

import functools
import os
import subprocess
import sys
import textwrap
import threading
from dataclasses import dataclass

import jax
import numpy as np
import pytest
import torch

from smcgen.text import Expert, FunctionReward, Tilt
from smcgen.text.identity import identity
from smcgen.text.rewards import ProcessReward
from tests.text import tiny


def closing_over(value):
    return lambda text: text.count(value)


def with_default(value):
    return lambda text, count=value: len(text) * count


def with_keyword(value):
    return lambda text, *, count=value: len(text) * count


class Scorer:
    def __init__(self, weight):
        self.weight = weight

    def __call__(self, texts):
        return self.score(texts)

    def score(self, texts):
        return [self.weight * len(t) for t in texts]


class OtherScorer(Scorer):
    pass


@dataclass(frozen=True)
class DataScorer:
    weight: float

    def __call__(self, texts):
        return [self.weight * len(t) for t in texts]


class Slotted:
    __slots__ = ("weight",)

    def __init__(self, weight):
        self.weight = weight


PAIRS = {
    "constants": (lambda t: t + 1, lambda t: t + 2),
    "code": (lambda a, b: a - b, lambda a, b: b - a),
    "names": (lambda t: t.count("a"), lambda t: t.index("a")),
    "inner functions": (
        lambda t: [(lambda x: x + 1)(x) for x in t],
        lambda t: [(lambda x: x + 2)(x) for x in t],
    ),
    "closures": (closing_over("a"), closing_over("b")),
    "closed-over arrays": (closing_over(np.arange(3)), closing_over(np.arange(3) + 1)),
    "closed-over objects": (closing_over(Scorer(1)), closing_over(Scorer(2))),
    "defaults": (with_default(1), with_default(2)),
    "keyword defaults": (with_keyword(1), with_keyword(2)),
    "partial arguments": (functools.partial(max, 1), functools.partial(max, 2)),
    "partial functions": (functools.partial(max, 1), functools.partial(min, 1)),
    "partial keywords": (functools.partial(max, key=len), functools.partial(max, key=str)),
    "bound methods": (Scorer(1).score, Scorer(2).score),
    "bound builtins": ("a".count, "b".count),
    "cached functions": (functools.cache(closing_over("a")), functools.cache(closing_over("b"))),
    "objects": (Scorer(1), Scorer(2)),
    "classes": (Scorer(1), OtherScorer(1)),
    "data": (DataScorer(1.0), DataScorer(2.0)),
    "slots": (Slotted(1), Slotted(2)),
    "arrays": (np.zeros(3), np.zeros((3, 1))),
    "tensors": (torch.zeros(3, dtype=torch.bfloat16), torch.ones(3, dtype=torch.bfloat16)),
    "jax arrays": (jax.numpy.zeros(3), jax.numpy.ones(3)),
    "keys": (jax.random.key(0), jax.random.key(1)),
    "mappings": ({"a": 1, 2: "b"}, {"a": 1, 2: "c"}),
    "experts": (Expert(tiny.llama(0)), Expert(tiny.llama(1))),
}


@pytest.mark.parametrize(("a", "b"), PAIRS.values(), ids=PAIRS)
def test_what_differs_is_told_apart(a, b):
    assert identity(a) != identity(b)
    assert identity(a) == identity(a)
    assert identity(Tilt(FunctionReward(lambda t: t))) != identity(a)


def test_equal_things_are_equal_wherever_they_lie():
    for make in (closing_over, with_default, with_keyword, Scorer, Slotted, DataScorer):
        assert identity(make(0.5)) == identity(make(0.5))
    assert identity(closing_over(Scorer(np.ones(2)))) == identity(closing_over(Scorer(np.ones(2))))
    assert identity(Scorer(threading.Lock())) == identity(Scorer(threading.Lock()))
    assert identity(Expert(tiny.llama(0))) == identity(Expert(tiny.llama.__wrapped__(0)))


def test_process_rewards_of_one_configuration_and_other_weights():
    heads = [tiny.llama.__wrapped__(0), tiny.llama.__wrapped__(0)]
    with torch.no_grad():
        heads[1].model.norm.weight += 1.0  # a single small parameter, anywhere
    rewards = [ProcessReward(m, tiny.tokenizer(), "math-shepherd") for m in heads]
    assert identity(rewards[0]) != identity(rewards[1])


def test_cycles_end():
    def first(n):
        return second(n - 1)

    def second(n):
        return first(n - 1)

    held: list = [first]
    held.append(held)
    assert identity(held) == identity(held)
    scorer = Scorer(1)
    scorer.weight = scorer.score
    assert " at 0x" not in identity(scorer)


def test_another_process_says_the_same_and_imports_no_torch():
    program = textwrap.dedent(
        """
        import sys
        from smcgen.text.identity import identity
        words = {"one", "two", "three"}
        f = lambda t: t in {"a", "b", "c"} and words
        print(identity([f, words, {"x": f, 1: object()}]), "torch" in sys.modules)
        """
    )
    said = [
        subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in "123"
    ]
    assert len(set(said)) == 1
    assert said[0].strip().endswith("False")
    assert " at 0x" not in said[0]
