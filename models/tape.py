"""The "calculator tape" task: a chain of mod-100 sums, written one line at a time.

A prompt ``Q:47+86*3-19\\n`` is worked strictly from left to right (no precedence), one operation a
line, every result modulo 100 and written with two digits::

    47+86=33
    33*3=99
    99-19=80
    A:80

The task is here because a wrong line can never be repaired later, so a particle filter that spots
it early has something to gain over a choice among finished texts. Pure Python and NumPy.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ALPHABET = "0123456789+-*=:QA\n"
HELD_OUT = Path(__file__).parent / "data" / "tape.jsonl"
MAX_OPS = 8
END = "<eos>"
_PROMPT = re.compile(r"Q:(\d\d)((?:[+-]\d\d|\*\d)+)\n")
_OP = re.compile(r"([+-])(\d\d)|(\*)(\d)")


def apply(value: int, op: str, operand: int) -> int:
    """One operation of the tape, modulo 100."""
    result = {"+": value + operand, "-": value - operand, "*": value * operand}[op]
    return result % 100


@dataclass(frozen=True)
class Tape:
    """A problem: the number it starts from and the operations applied to it in order."""

    start: int
    ops: tuple[tuple[str, int], ...]

    @property
    def prompt(self) -> str:
        return f"Q:{self.start:02d}" + "".join(f"{op}{n}" for op, n in self.ops) + "\n"

    @classmethod
    def parse(cls, prompt: str) -> Tape:
        """Read a prompt back. Raises ValueError when it is not one."""
        match = _PROMPT.fullmatch(prompt)
        if match is None:
            raise ValueError(f"not a tape prompt: {prompt!r}")
        found = (m.groups() for m in _OP.finditer(match[2]))
        return cls(int(match[1]), tuple((a or c, int(b or d)) for a, b, c, d in found))

    def line(self, index: int, value: int) -> str:
        """The right line number ``index`` for a tape that stands at ``value`` (no newline).

        The line after the last operation is the answer. ``value`` may itself be wrong, which is how
        a line is judged apart from the ones before it.
        """
        if index >= len(self.ops):
            return f"A:{value:02d}"
        op, n = self.ops[index]
        return f"{value:02d}{op}{n}={apply(value, op, n):02d}"

    def solution(self) -> str:
        """The right text after the prompt, without the end token."""
        lines, value = [], self.start
        for index, (op, n) in enumerate(self.ops):
            lines.append(self.line(index, value))
            value = apply(value, op, n)
        return "\n".join([*lines, self.line(len(self.ops), value)])

    @property
    def answer(self) -> str:
        return self.solution()[-2:]


def random_tape(rng: np.random.Generator, n_ops: int) -> Tape:
    """Draw a problem: two-digit terms (40 % plus, 40 % minus) and one-digit factors (20 %)."""
    ops = tuple(
        (str(op), int(rng.integers(2, 10) if op == "*" else rng.integers(10, 100)))
        for op in rng.choice(list("+-*"), size=n_ops, p=[0.4, 0.4, 0.2])
    )
    return Tape(int(rng.integers(10, 100)), ops)


def grade(prompt: str, text: str) -> list[bool]:
    """For each line of ``text``: are it and all lines before it right?

    An unfinished last line is graded as if it ended where the text ends.
    """
    tape = Tape.parse(prompt)
    right = tape.solution().split("\n")
    written = text.removesuffix("\n").split("\n") if text else []
    grades, so_far = [], True
    for index, line in enumerate(written):
        so_far = so_far and index < len(right) and line == right[index]
        grades.append(so_far)
    return grades


def continuations(prompt: str, text: str) -> list[str | None]:
    """For each character of ``text`` and for its end: what should have stood there?

    Every line is judged given the value the line before it *wrote*, so that a wrong tape too
    teaches right sums. None once a line has left the right track: no continuation of it is right.
    """
    tape = Tape.parse(prompt)
    targets: list[str | None] = []
    value: int | None = tape.start
    for index, line in enumerate(text.split("\n")):
        right: list[str] = []
        if value is not None and index <= len(tape.ops):
            right = [*tape.line(index, value), "\n" if index < len(tape.ops) else END]
        for j in range(len(line) + 1):
            on_track = j < len(right) and [*line[:j]] == right[:j]
            targets.append(right[j] if on_track else None)
        value = int(line[-2:]) if line[-2:].isdigit() else None
    return targets


def final_answer(text: str) -> str | None:
    """The number on the last line, or None if the text does not end with an answer line."""
    match = re.search(r"(?:^|\n)A:(\d\d)$", text)
    return match[1] if match else None


def is_right(prompt: str, text: str) -> bool:
    """Every line and the final answer are right."""
    return text == Tape.parse(prompt).solution()


def corrupt(rng: np.random.Generator, tape: Tape, p_error: float = 0.12) -> str:
    """A tape worked with slips: each line is wrong with ``p_error``, and later lines carry it on.

    Mostly the result is off in one digit, as a weak model's are; sometimes a copied number is.
    """
    lines, value = [], tape.start
    for index in range(len(tape.ops) + 1):
        line = tape.line(index, value)
        if rng.random() < p_error:
            line = _slip(rng, line)
        lines.append(line)
        value = int(line[-2:])
    return "\n".join(lines)


def _slip(rng: np.random.Generator, line: str) -> str:
    """Change one digit of a line; nine times in ten one of the two result digits."""
    digits = [i for i, char in enumerate(line) if char.isdigit()]
    at = int(rng.choice(digits[-2:] if rng.random() < 0.9 else digits))
    near = rng.choice([-1, 1]) if rng.random() < 0.5 else rng.integers(1, 10)
    return line[:at] + str((int(line[at]) + int(near)) % 10) + line[at + 1 :]


def load(path: Path = HELD_OUT) -> list[dict]:
    """The held-out problems, as dicts with ``id``, ``prompt``, ``answer`` and ``ops``."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def held_out_prompts() -> frozenset[str]:
    """Prompts that training must never draw."""
    return frozenset(row["prompt"] for row in load())


def training_tapes(rng: np.random.Generator, n_ops: int, banned: frozenset[str]) -> Iterator[Tape]:
    """An endless stream of problems with ``n_ops`` operations, none of them held out."""
    while True:
        tape = random_tape(rng, n_ops)
        if tape.prompt not in banned:
            yield tape
