"""Balanced brackets with dots, such as ``.(()..(.))``: exact samples, their entropy and how deep they nest.

All balanced strings of ``LENGTH`` characters are equally likely (they are Motzkin paths), so a sampler
that counts completions is exact and the entropy is the logarithm of their number.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np

ALPHABET = "()."
LENGTH = 24
MASK = len(ALPHABET)
"""Token ids are places in the alphabet; the mask comes after them."""


@cache
def completions(left: int, height: int) -> int:
    """In how many ways ``left`` more characters close all ``height`` open brackets."""
    if height < 0 or height > left:
        return 0
    if left == 0:
        return 1
    return sum(completions(left - 1, height + d) for d in (1, -1, 0))


def entropy() -> float:
    """Nats per character of the uniform law."""
    return math.log(completions(LENGTH, 0)) / LENGTH


def sample(rng: np.random.Generator, n: int) -> np.ndarray:
    """Ids of ``n`` balanced strings, shape (n, LENGTH), each string equally likely."""
    ids, height = np.zeros((n, LENGTH), np.int64), np.zeros(n, np.int64)
    for place in range(LENGTH):
        left = LENGTH - place
        ways = [[completions(left - 1, h + d) for d in (1, -1, 0)] for h in range(left + 1)]
        law = np.array(ways, float)
        law /= np.maximum(law.sum(1, keepdims=True), 1)
        below = law.cumsum(1)[height]
        ids[:, place] = (rng.random(n)[:, None] >= below).sum(1).clip(max=2)
        height += np.array([1, -1, 0])[ids[:, place]]
    return ids


def text(ids: np.ndarray) -> str:
    """One string."""
    return "".join(ALPHABET[i] for i in ids)


def is_balanced(string: str) -> bool:
    """Every bracket closes one that is open."""
    return violations(string) == 0


def violations(string: str) -> int:
    """Brackets that have no partner."""
    opened = lonely = 0
    for c in string:
        opened += (c == "(") - (c == ")")
        if opened < 0:
            opened, lonely = 0, lonely + 1
    return opened + lonely


def reward(string: str) -> float:
    """How deep a balanced string nests; less than zero for each bracket without a partner."""
    wrong = violations(string)
    if wrong:
        return -float(wrong)
    heights = np.cumsum([(c == "(") - (c == ")") for c in string])
    return float(max(heights, default=0))
