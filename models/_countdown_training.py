"""What only training needs of Countdown: texts that go astray, and what is known about them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from models import countdown
from models.tape import END

N_FACTS = countdown.LARGEST + 1


def continuations(prompt: str, text: str) -> list[str | None]:
    """For each character of ``text`` and for its end: what should have stood there, if it is known.

    In a solution every character is. In other texts what follows the ``=`` of each line is, since
    the two numbers and the operation fix it; but nothing after the first slip.
    """
    if countdown.is_right(prompt, text):
        return [*text, END]
    state: tuple[int, ...] | None = countdown.parse(prompt)[0]
    targets: list[str | None] = []
    for line in text.split("\n"):
        head = line.partition("=")[0] + "="
        right, left = _completed(state, head)
        right_chars = [*right, END if left is not None and len(left) == 1 else "\n"]
        for j in range(len(line) + 1):
            known = left is not None and len(head) <= j < len(right_chars)
            known = known and [*line[:j]] == right_chars[:j]
            targets.append(right_chars[j] if known else None)
        state = left if line == right else None
    return targets


def _completed(numbers: tuple[int, ...] | None, head: str) -> tuple[str, tuple[int, ...] | None]:
    """The line that begins with ``head`` (``07*03=``) and what remains, None if it is not valid."""
    options = countdown.moves(numbers).items() if numbers is not None else ()
    return next((step for step in options if step[0].startswith(head)), (head, None))


def facts(prompt: str, text: str) -> list[np.ndarray | None]:
    """For each line, up to the first slip: which results the numbers that are left can reach.

    The label of a step tells one bit of this set, the one at the target; learned whole, the search
    behind the label is learned from far fewer texts.
    """
    state: tuple[int, ...] | None = countdown.parse(prompt)[0]
    known: list[np.ndarray | None] = []
    for line in text.split("\n"):
        state = countdown.moves(state).get(line) if state is not None else None
        known.append(_as_vector(state) if state is not None else None)
    return known


@lru_cache(maxsize=1 << 16)
def _as_vector(numbers: tuple[int, ...]) -> np.ndarray:
    vector = np.zeros(N_FACTS, dtype=np.float32)
    vector[list(countdown.reachable(numbers))] = 1.0
    return vector


def astray(rng: np.random.Generator, prompt: str, slips: float) -> str:
    """A text that keeps the target in reach for some lines, then goes on at random.

    Besides, one digit of each line is changed with probability ``slips``.
    """
    numbers, target = countdown.parse(prompt)
    steps = countdown.walk(rng, numbers, target, lines=int(rng.integers(countdown.N_NUMBERS)))
    return "\n".join(_slip(rng, line) if rng.random() < slips else line for line, _ in steps)


def _slip(rng: np.random.Generator, line: str) -> str:
    at = int(rng.choice([i for i, char in enumerate(line) if char.isdigit()]))
    digit = (int(line[at]) + int(rng.integers(1, 10))) % 10
    return line[:at] + str(digit) + line[at + 1 :]
