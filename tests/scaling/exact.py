"""Strategies on the language model that is enumerated: one run, many problems."""

from typing import Any

import numpy as np
import pytest

from smcgen import scaling
from smcgen.text.rewards import FunctionReward
from tests.text.toy import EOS, ToyEngine

RUNS, N, TOKENS = 400, 4, 3
ENGINE = ToyEngine(3, max_tokens=TOKENS)
ANSWER = r"([ab])"  # a text's answer is its last letter
WRITING = scaling.Writing(step=1, max_steps=TOKENS, max_tokens=TOKENS, answer=ANSWER)


def right(texts):
    """A process reward on prefixes: few values, so that the law of a choice is coarse."""
    return [(1.0 + t.count("b")) / (2.0 + t.count("b") + t.count("a")) for t in texts]


REWARD = FunctionReward(right, probability=True)


USUAL = ("best-of-n", "particle-filter")
NAMES = [  # of all strategies; those that a quick run leaves out are marked
    pytest.param(n, marks=() if n in USUAL else pytest.mark.slow)
    for n in sorted(scaling.STRATEGIES)
]


def run(strategy: scaling.Strategy, budget: Any = N, prompts: int = RUNS, key: int = 5) -> Any:
    return strategy.run(ENGINE, ["a"] * prompts, REWARD, budget, key=key, writing=WRITING)


def law() -> dict[tuple[str, bool], float]:
    """Probability of each (text, ended by itself)."""
    found: dict[tuple[str, bool], float] = {}
    for ids, log_p in ENGINE.law(TOKENS).items():
        key = ENGINE.tokenizer.decode(ids), ids[-1] == EOS
        found[key] = found.get(key, 0.0) + float(np.exp(log_p))
    return found


def psi(text: str) -> float:
    return right([text])[0]
