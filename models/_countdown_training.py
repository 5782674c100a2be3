"""What only training needs of Countdown: texts with slips, and what should have stood in them."""

from __future__ import annotations

import re

import numpy as np

from models import countdown
from models.tape import END


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
        right, result = _completed(state, head) if state is not None else (head, None)
        last = END if result is not None and len(result) == 1 else "\n"
        right_chars = [*right, last] if result is not None else []
        for j in range(len(line) + 1):
            known = len(head) <= j < len(right_chars) and [*line[:j]] == right_chars[:j]
            targets.append(right_chars[j] if known else None)
        state = result if line == right else None
    return targets


def _completed(numbers: tuple[int, ...], head: str) -> tuple[str, tuple[int, ...] | None]:
    """The line that begins with ``head`` (``7*3=``) and what remains, None if it is not valid."""
    match = re.fullmatch(r"(\d+)([+*-])(\d+)=", head)
    if match is None:
        return head, None
    a, op, b = int(match[1]), match[2], int(match[3])
    enough = a in numbers and b in numbers and (a != b or numbers.count(a) > 1)
    if not enough or countdown.apply(a, op, b) is None or len(numbers) == 1:
        return head, None
    return countdown.write(numbers, a, op, b)


def slip(rng: np.random.Generator, text: str, p_error: float) -> str:
    """Change one digit of each line with ``p_error``; the lines after it are left as they were."""
    lines = text.split("\n")
    for index, line in enumerate(lines):
        if rng.random() < p_error:
            at = int(rng.choice([i for i, char in enumerate(line) if char.isdigit()]))
            digit = (int(line[at]) + int(rng.integers(1, 10))) % 10
            lines[index] = line[:at] + str(digit) + line[at + 1 :]
    return "\n".join(lines)
