"""What training has to know of a task, so that one pipeline serves them all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

import numpy as np

from models import _countdown_training, countdown, tape

Pairs = list[tuple[str, str]]
"""(prompt, text) pairs."""


@dataclass(frozen=True)
class Task:
    """A task as functions of text; nothing in here ever draws a held-out problem.

    Attributes:
        alphabet: the characters of prompts and texts.
        prompts: (rng, count, hard) to prompts; ``hard``: of the length the policy is judged at.
        worked: (rng, rows, slips) to an endless stream of batches of worked problems; ``slips`` is
            how often a line goes wrong, in some of the texts.
        grade: for each line, whether it and all before it are good.
        is_right: whether a finished text is right.
        continuations: for each character of a text and for its end, what should stand there (None
            where nothing can be said).
        every_character: whether ``continuations`` judges every character, so that "all right so
            far" has a meaning in the middle of a line too.
        facts: for each line of a text, ``n_facts`` zeros and ones that say more of where it leads
            than its grade does (None where nothing can be said); taught besides the grade.
    """

    name: str
    alphabet: str
    prompts: Callable[[np.random.Generator, int, bool], list[str]]
    worked: Callable[[np.random.Generator, int, float], Iterator[Pairs]]
    grade: Callable[[str, str], list[bool]]
    is_right: Callable[[str, str], bool]
    continuations: Callable[[str, str], list[str | None]]
    every_character: bool
    facts: Callable[[str, str], list[np.ndarray | None]] = lambda prompt, text: []
    n_facts: int = 0


def _tape_prompts(rng: np.random.Generator, count: int, hard: bool) -> list[str]:
    banned = tape.held_out_prompts()
    lengths = [
        tape.MAX_OPS if hard else int(rng.integers(1, tape.MAX_OPS + 1)) for _ in range(count)
    ]
    return [next(tape.training_tapes(rng, n, banned)).prompt for n in lengths]


def _tape_worked(rng: np.random.Generator, rows: int, slips: float) -> Iterator[Pairs]:
    """One length a batch, longer ones more often, about the same number of tokens in each batch."""
    banned = tape.held_out_prompts()
    lengths = np.arange(1, tape.MAX_OPS + 1)
    while True:
        n_ops = int(rng.choice(lengths, p=lengths / lengths.sum()))
        tapes = tape.training_tapes(rng, n_ops, banned)
        made = []
        for _ in range(max(1, rows * (tape.MAX_OPS + 1) // (n_ops + 1))):
            drawn = next(tapes)
            p_error = slips if rng.random() < 0.5 else 0.0
            made.append((drawn.prompt, tape.corrupt(rng, drawn, p_error)))
        yield made


def _countdown_prompts(rng: np.random.Generator, count: int, hard: bool) -> list[str]:
    return [prompt for prompt, _ in islice(countdown.training_problems(rng), count)]


def _countdown_worked(rng: np.random.Generator, rows: int, slips: float) -> Iterator[Pairs]:
    """Solutions; with ``slips`` texts that may go astray at any line."""
    problems = countdown.training_problems(rng)
    while True:
        made = []
        for prompt, text in islice(problems, rows):
            made.append((prompt, _countdown_training.astray(rng, prompt, slips) if slips else text))
        yield made


TAPE = Task(
    name="tape",
    alphabet=tape.ALPHABET,
    prompts=_tape_prompts,
    worked=_tape_worked,
    grade=tape.grade,
    is_right=tape.is_right,
    continuations=tape.continuations,
    every_character=True,
)
COUNTDOWN = Task(
    name="countdown",
    alphabet=countdown.ALPHABET,
    prompts=_countdown_prompts,
    worked=_countdown_worked,
    grade=countdown.grade,
    is_right=countdown.is_right,
    continuations=_countdown_training.continuations,
    every_character=False,
    facts=_countdown_training.facts,
    n_facts=_countdown_training.N_FACTS,
)
