"""The Countdown task: reach a target by combining the given numbers, two at a time.

A prompt ``N:3,7,2,11 T:30\\n`` is answered with one line for each combination: two of the numbers
that are left, ``+``, ``-`` or ``*``, the result, and what remains after it (unused numbers in their
order, then the result)::

    7*3=21;2,11,21
    11-2=9;21,9
    21+9=30;30

until one number remains, which must be the target. Results stay within 1..99. Seeing whether the
target can still be reached is a search, so early steps are a real gamble for a small model, while a
wrong turn is exactly checkable (:func:`still_solvable`). Pure Python and NumPy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import permutations
from pathlib import Path

import numpy as np

ALPHABET = "0123456789+-*=:,;NT \n"
HELD_OUT = Path(__file__).parent / "data" / "countdown.jsonl"
N_NUMBERS = 4
LARGEST = 99
_PROMPT = re.compile(r"N:(\d+(?:,\d+)*) T:(\d+)\n")
_LINE = re.compile(r"(\d+)([+*-])(\d+)=(\d+);(\d+(?:,\d+)*)")


def parse(prompt: str) -> tuple[tuple[int, ...], int]:
    """The numbers and the target. Raises ValueError when ``prompt`` is not one."""
    match = _PROMPT.fullmatch(prompt)
    if match is None:
        raise ValueError(f"not a countdown prompt: {prompt!r}")
    return tuple(map(int, match[1].split(","))), int(match[2])


def apply(a: int, op: str, b: int) -> int | None:
    """The result of one combination, or None if it leaves 1..99."""
    result = {"+": a + b, "-": a - b, "*": a * b}[op]
    return result if 1 <= result <= LARGEST else None


def after(numbers: tuple[int, ...], line: str) -> tuple[int, ...] | None:
    """What remains after a line, or None if the line is not a valid one."""
    match = _LINE.fullmatch(line)
    if match is None:
        return None
    a, op, b, result = int(match[1]), match[2], int(match[3]), int(match[4])
    left = list(numbers)
    for used in (a, b):
        if used not in left:
            return None
        left.remove(used)
    expected = (*left, result)
    valid = apply(a, op, b) == result and line.split(";")[1] == ",".join(map(str, expected))
    return expected if valid else None


def moves(numbers: tuple[int, ...]) -> Iterator[tuple[int, str, int]]:
    """Every valid combination of two of the numbers, larger number first."""
    for i, j in permutations(range(len(numbers)), 2):
        a, b = numbers[i], numbers[j]
        if a > b or (a == b and i < j):
            for op in "+-*":
                if apply(a, op, b) is not None:
                    yield a, op, b


def write(numbers: tuple[int, ...], a: int, op: str, b: int) -> tuple[str, tuple[int, ...]]:
    """The line of a valid combination, and what remains after it."""
    left = list(numbers)
    left.remove(a)
    left.remove(b)
    result = apply(a, op, b)
    assert result is not None
    left.append(result)
    return f"{a}{op}{b}={result};" + ",".join(map(str, left)), tuple(left)


@lru_cache(maxsize=1 << 18)
def _reachable(numbers: tuple[int, ...]) -> frozenset[int]:
    """Every target the (sorted) numbers can reach using all of them."""
    if len(numbers) == 1:
        return frozenset(numbers)
    found: set[int] = set()
    for a, op, b in moves(numbers):
        found |= _reachable(tuple(sorted(write(numbers, a, op, b)[1])))
    return frozenset(found)


def grade(prompt: str, text: str) -> list[bool]:
    """For each line of ``text``: are it and all before it valid, and is the target in reach?

    On the last line of a finished text "in reach" means reached, so its grade is the outcome. An
    unfinished last line is graded as if it ended where the text ends.
    """
    left, target = parse(prompt)
    state: tuple[int, ...] | None = left
    grades = []
    for line in text.removesuffix("\n").split("\n") if text else []:
        state = after(state, line) if state is not None and len(state) > 1 else None
        grades.append(state is not None and target in _reachable(tuple(sorted(state))))
    return grades


def still_solvable(prompt: str, text: str) -> float:
    """Exact reward of a prefix: 1.0 if every line is valid and the target can still be reached.

    For a finished text (no further line allowed) this is whether it reached the target.
    """
    numbers, target = parse(prompt)
    if not text:
        return float(target in _reachable(tuple(sorted(numbers))))
    return float(grade(prompt, text)[-1])


def valid_lines(prompt: str, text: str) -> list[bool]:
    """For each line: are it and all before it valid steps, wherever they lead?"""
    state: tuple[int, ...] | None = parse(prompt)[0]
    valid = []
    for line in text.removesuffix("\n").split("\n") if text else []:
        state = after(state, line) if state is not None and len(state) > 1 else None
        valid.append(state is not None)
    return valid


def is_right(prompt: str, text: str) -> bool:
    """A complete text: valid lines down to one number, which is the target."""
    lines = len(parse(prompt)[0]) - 1
    return text.count("\n") == lines - 1 and not text.endswith("\n") and grade(prompt, text)[-1]


def random_walk(rng: np.random.Generator, numbers: tuple[int, ...]) -> tuple[str, int] | None:
    """Combine at random until one number remains: the text and where it ended (None if stuck)."""
    lines = []
    while len(numbers) > 1:
        options = list(moves(numbers))
        if not options:
            return None
        line, numbers = write(numbers, *options[int(rng.integers(len(options)))])
        lines.append(line)
    return "\n".join(lines), numbers[0]


def random_problem(rng: np.random.Generator) -> tuple[str, str]:
    """A prompt and one of its solutions: numbers from 1..20, a target from 10..99 within reach."""
    while True:
        numbers = tuple(int(n) for n in rng.integers(1, 21, size=N_NUMBERS))
        walk = random_walk(rng, numbers)
        if walk is not None and walk[1] >= 10:
            return f"N:{','.join(map(str, numbers))} T:{walk[1]}\n", walk[0]


def load(path: Path = HELD_OUT) -> list[dict]:
    """The held-out problems, as dicts with ``id``, ``prompt``, ``numbers``, ``target``."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def _unordered(prompt: str) -> tuple[tuple[int, ...], int]:
    numbers, target = parse(prompt)
    return tuple(sorted(numbers)), target


def held_out() -> frozenset[tuple[tuple[int, ...], int]]:
    """Problems training must never draw, whatever the order of their numbers."""
    return frozenset(_unordered(row["prompt"]) for row in load())


def training_problems(rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """An endless stream of (prompt, solution), none of them held out in any order."""
    banned = held_out()
    while True:
        prompt, solution = random_problem(rng)
        if _unordered(prompt) not in banned:
            yield prompt, solution
