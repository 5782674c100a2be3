"""The Countdown task: reach a target by combining the given numbers, two at a time.

A prompt ``N:09,05,03,02 T:46\\n`` is answered with one line for each combination: two of the numbers
that are left, ``+``, ``-`` or ``*``, the result, and what remains after it::

    09*05=45;45,03,02
    03-02=01;45,01
    45+01=46;46

until one number remains, which must be the target. Results stay within 1..50. Numbers have two
digits and stand largest first, so that small models need not learn where to look nor that the order
of the numbers means nothing. Seeing whether the target can still be reached is a search, so early
steps are a real gamble for a small model, while a wrong turn is exactly checkable
(:func:`still_solvable`). Pure Python and NumPy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import combinations
from pathlib import Path

import numpy as np

ALPHABET = "0123456789+-*=:,;NT \n"
HELD_OUT = Path(__file__).parent / "data" / "countdown.jsonl"
N_NUMBERS = 4
LARGEST = 50
SMALLEST_TARGET = 10
_PROMPT = re.compile(r"N:(\d\d(?:,\d\d)*) T:(\d\d)\n")


def listed(numbers: Iterable[int]) -> str:
    """Numbers as the task writes them: ``45,03,02``."""
    return ",".join(f"{number:02d}" for number in numbers)


def parse(prompt: str) -> tuple[tuple[int, ...], int]:
    """The numbers, largest first, and the target. Raises ValueError when ``prompt`` is not one."""
    match = _PROMPT.fullmatch(prompt)
    if match is None:
        raise ValueError(f"not a countdown prompt: {prompt!r}")
    return _largest_first(map(int, match[1].split(","))), int(match[2])


def _largest_first(numbers: Iterable[int]) -> tuple[int, ...]:
    return tuple(sorted(numbers, reverse=True))


@lru_cache(maxsize=1 << 16)
def moves(numbers: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """Every valid line that combines two of the numbers (the larger first), with what remains."""
    found = {}
    for i, j in combinations(range(len(numbers)), 2):
        a, b = numbers[i], numbers[j]
        for op, result in (("+", a + b), ("-", a - b), ("*", a * b)):
            if 1 <= result <= LARGEST:
                rest = numbers[:i] + numbers[i + 1 : j] + numbers[j + 1 :]
                left = _largest_first([*rest, result])
                found[f"{a:02d}{op}{b:02d}={result:02d};{listed(left)}"] = left
    return found


@lru_cache(maxsize=1 << 16)
def reachable(numbers: tuple[int, ...]) -> frozenset[int]:
    """Every target the numbers can reach using all of them."""
    if len(numbers) == 1:
        return frozenset(numbers)
    return frozenset().union(*(reachable(rest) for rest in moves(numbers).values()))


def grade(prompt: str, text: str) -> list[bool]:
    """For each line of ``text``: are it and all before it valid, and is the target in reach?

    On the last line of a finished text "in reach" means reached, so its grade is the outcome. An
    unfinished last line is graded as if it ended where the text ends.
    """
    left, target = parse(prompt)
    state: tuple[int, ...] | None = left
    grades = []
    for line in text.removesuffix("\n").split("\n") if text else []:
        state = moves(state).get(line) if state is not None else None
        grades.append(state is not None and target in reachable(state))
    return grades


def still_solvable(prompt: str, text: str) -> float:
    """Exact reward of a prefix: 1.0 if every line is valid and the target can still be reached.

    For a finished text (no further line allowed) this is whether it reached the target.
    """
    numbers, target = parse(prompt)
    if not text:
        return float(target in reachable(numbers))
    return float(grade(prompt, text)[-1])


def valid_lines(prompt: str, text: str) -> list[bool]:
    """For each line: are it and all before it valid steps, wherever they lead?"""
    state: tuple[int, ...] | None = parse(prompt)[0]
    valid = []
    for line in text.removesuffix("\n").split("\n") if text else []:
        state = moves(state).get(line) if state is not None else None
        valid.append(state is not None)
    return valid


def is_right(prompt: str, text: str) -> bool:
    """A complete text: valid lines down to one number, which is the target."""
    lines = len(parse(prompt)[0]) - 1
    return text.count("\n") == lines - 1 and not text.endswith("\n") and grade(prompt, text)[-1]


def walk(
    rng: np.random.Generator, numbers: tuple[int, ...], target: int = 0, lines: int = 0
) -> list[tuple[str, tuple[int, ...]]]:
    """Combine at random until one number remains or none can be: lines and what remained after.

    The first ``lines`` of them keep ``target`` in reach, as long as it is.
    """
    steps = []
    while options := list(moves(numbers).items()):
        if len(steps) < lines:
            options = [step for step in options if target in reachable(step[1])] or options
        line, numbers = options[int(rng.integers(len(options)))]
        steps.append((line, numbers))
    return steps


def random_problem(rng: np.random.Generator) -> tuple[str, str]:
    """A prompt and one of its solutions: numbers from 1..9, a target from 10..50 within reach."""
    while True:
        numbers = _largest_first(int(n) for n in rng.integers(1, 10, size=N_NUMBERS))
        steps = walk(rng, numbers)
        left = steps[-1][1]
        if len(left) == 1 and left[0] >= SMALLEST_TARGET:
            text = "\n".join(line for line, _ in steps)
            return f"N:{listed(numbers)} T:{left[0]}\n", text


def load(path: Path = HELD_OUT) -> list[dict]:
    """The held-out problems, as dicts with ``id``, ``prompt``, ``numbers``, ``target``."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def held_out() -> frozenset[str]:
    """Prompts training must never draw (numbers stand in one order only)."""
    return frozenset(row["prompt"] for row in load())


def training_problems(rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """An endless stream of (prompt, solution), none of them held out."""
    banned = held_out()
    while True:
        prompt, solution = random_problem(rng)
        if prompt not in banned:
            yield prompt, solution
