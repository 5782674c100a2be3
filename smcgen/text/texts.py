"""The texts of a population: token ids with their step boundaries, decoded only when asked."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int8

from smcgen.text.detokenize import decode, decode_pieces
from smcgen.text.prompts import Prompt

Row = int | np.integer


class Finish(IntEnum):
    """Why a text is no longer written. Anything but RUNNING is absorbing: its potential is 1."""

    RUNNING = 0
    EOS = 1  # the model ended it
    LENGTH = 2  # it reached the allowed number of tokens or steps
    DEAD = 3  # no token was allowed: its weight is zero
    STOP = 4  # it has one of the strings that end a text


TEXT_ARRAYS = ("ids", "lengths", "step_ends", "finish")  # of `Texts`


@dataclass(frozen=True)
class Texts:
    """Completions of `problems * n` particles; row `problem * n + particle` is a particle.

    Attributes:
        prompts: one per problem.
        n: particles per problem.
        ids: token ids of the completions, prompts excluded; -1 past each end.
        lengths: tokens in each completion.
        step_ends: number of tokens at the end of each step so far, nondecreasing along a row; an
            ended text repeats its last value.
        finish: a `Finish` code per row.
        tokenizer: the tokenizer of the ids.
    """

    prompts: Sequence[Prompt]
    n: int
    ids: Int[np.ndarray, "rows tokens"]
    lengths: Int[np.ndarray, " rows"]
    step_ends: Int[np.ndarray, "rows steps"]
    finish: Int8[np.ndarray, " rows"]
    tokenizer: Any = field(repr=False)

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def ended(self) -> np.ndarray:
        """Rows that are no longer written, shape (rows,)."""
        return self.finish != Finish.RUNNING

    @property
    def whole(self) -> np.ndarray:
        """Rows that ended by themselves, not cut off, shape (rows,)."""
        return np.isin(self.finish, (Finish.EOS, Finish.STOP))

    def of_problems(self, problems: Bool[np.ndarray, " problems"]) -> "Texts":
        """The texts of some of the problems, as a population of their own."""
        if problems.all():
            return self
        rows = np.repeat(problems, self.n)
        prompts = [p for p, on in zip(self.prompts, problems, strict=True) if on]
        return self.of_rows(rows, prompts, self.n)

    def of_rows(self, rows: Any, prompts: Sequence[Prompt], n: int) -> "Texts":
        """Some rows (anything that indexes an array), as n texts on each of these prompts."""
        picked = {k: getattr(self, k)[rows] for k in TEXT_ARRAYS}
        return replace(self, prompts=prompts, n=n, **picked)

    def extended(
        self,
        rows: Int[np.ndarray, " m"],
        tokens: Int[np.ndarray, "m width"],
        lengths: Int[np.ndarray, " m"],
        finish: Int8[np.ndarray, " m"],
    ) -> "Texts":
        """The texts with a step more, in which `rows` have written something."""
        total = self.lengths.copy()
        total[rows] += lengths
        width = max(int(total.max(initial=0)), self.ids.shape[1])
        ids = np.full((len(self), width), -1, np.int32)
        ids[:, : self.ids.shape[1]] = self.ids
        into = self.lengths[rows][:, None] + np.arange(tokens.shape[1])
        real = np.arange(tokens.shape[1]) < lengths[:, None]
        ids[np.repeat(rows, lengths), into[real]] = tokens[real]
        why = self.finish.copy()
        why[rows] = finish
        ends = np.concatenate([self.step_ends, total[:, None]], 1)
        return replace(self, ids=ids, lengths=total, step_ends=ends, finish=why)

    def prompt(self, row: Row) -> Prompt:
        """The prompt that a row completes."""
        return self.prompts[int(row) // self.n]

    def tokens(self, row: Row) -> list[int]:
        """A row's completion as token ids."""
        return self.ids[row, : self.lengths[row]].tolist()

    def steps(self, row: Row) -> list[list[int]]:
        """A row's completion as one list of token ids per step; empty steps are left out."""
        ends = np.unique(self.step_ends[row])
        ends = ends[ends > 0].tolist()
        ids = self.tokens(row)
        return [ids[a:b] for a, b in pairwise([0, *ends])]

    def text(self, row: Row) -> str:
        """A row's completion as text, special tokens left out."""
        return decode(self.tokenizer, self.tokens(row))

    def step_texts(self, row: Row) -> list[str]:
        """A row's steps as text; their concatenation is `text(row)`."""
        return decode_pieces(self.tokenizer, self.steps(row))
