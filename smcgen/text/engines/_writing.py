"""A step while it is being written: what each row has, and which rows go on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int

from smcgen.errors import InvalidArgument, SmcgenError
from smcgen.text.engines._stop import Stop
from smcgen.text.engines.base import Extension
from smcgen.text.steps import Step
from smcgen.text.stops import Until
from smcgen.text.texts import Finish

_FIRST_WIDTH = 16  # columns of tokens that are there at first; they double
# texts that end without the model's own end; looking up a member takes as long as a NumPy operation
_LENGTH, _STOP = int(Finish.LENGTH), int(Finish.STOP)
_OVER = -2  # in the table of given tokens: no more are given


class Writing:
    """One step of the rows `rows`, which need not keep pace with each other.

    Args:
        rows: rows of the population; below, `at` are indices into them.
        step, limits, last: see `smcgen.text.engines.base.Session.extend`.
        is_eos: which tokens end a text.
        tokenizer: reads tokens for the step's own conditions.
        n: particles per problem.
        factors: open token factors, told of every token.
        given: the tokens of rows that do not draw theirs; their step must end with the last of them.
        until: finds the strings that end a text.
    """

    def __init__(
        self,
        rows: Int[np.ndarray, " m"],
        step: Step,
        limits: Int[np.ndarray, " m"],
        last: bool,
        is_eos: Bool[np.ndarray, " vocab"],
        tokenizer: Any,
        n: int,
        factors: Sequence[Any] = (),
        given: Mapping[int, Sequence[int]] | None = None,
        until: Until | None = None,
    ):
        m = len(rows)
        self._until = until
        self.rows, self.limits, self.last = rows, limits, last
        self._step, self._is_eos, self._n, self._factors = step, is_eos, n, factors
        self.finish = np.zeros(m, dtype=np.int8)
        self.lengths = np.zeros(m, dtype=np.int64)
        self._logs = np.zeros((3, m))  # base, factor, proposal
        self._tokens = np.full((m, _FIRST_WIDTH), -1, dtype=np.int64)
        self._stop = None
        if step.delimiters or step.when is not None:
            self._stop = Stop(replace(step, tokens=None), tokenizer, len(is_eos), m)
        self.finish[limits <= 0] = Finish.LENGTH
        self.active: Bool[np.ndarray, " m"] = limits > 0
        self._given = _table(rows, given, len(is_eos)) if given else None

    def given(self, at: Int[np.ndarray, " a"]) -> Int[np.ndarray, " a"] | None:
        """The next token of rows `at`, -1 where it is drawn; None if all are."""
        if self._given is None:
            return None
        tokens = self._given[at, np.minimum(self.lengths[at], self._given.shape[1] - 1)]
        if (tokens == _OVER).any():
            raise _unlike(self.tokens(int(at[tokens == _OVER][0])), "ends no step here")
        return tokens

    def push(
        self, at: Int[np.ndarray, " a"], drawn: Float64[np.ndarray, "4 a"]
    ) -> Bool[np.ndarray, " a"]:
        """Rows `at` got a token each (-1: none was allowed) with its laws; which end their step."""
        if np.isnan(drawn).any():
            raise SmcgenError("the model or a factor gave values that are not numbers (NaN)")
        tokens = drawn[0].astype(np.int64)
        ended = np.zeros(len(at), dtype=bool)
        dead = tokens < 0
        if dead.any():
            self.finish[at[dead]], self._logs[1, at[dead]] = Finish.DEAD, -np.inf
            ended[dead] = True
            live = np.flatnonzero(~dead)
            if len(live):
                ended[live] = self._push(at[live], tokens[live], drawn[1:, live])
        else:
            ended = self._push(at, tokens, drawn[1:])
        self.active[at[ended]] = False
        return ended

    def _push(self, at: np.ndarray, tokens: np.ndarray, logs: np.ndarray) -> np.ndarray:
        places = self.lengths[at]
        if places.max() >= self._tokens.shape[1]:
            self._tokens = np.pad(
                self._tokens, ((0, 0), (0, self._tokens.shape[1])), constant_values=-1
            )
        self._tokens[at, places] = tokens
        self._logs[:, at] += logs
        self.lengths[at] += 1
        for factor in self._factors:
            factor.push(self.rows[at], tokens)
        over = self._stop.push(at, tokens) if self._stop else np.zeros(len(at), dtype=bool)
        if self._step.tokens is not None:
            over = over | (self.lengths[at] >= self._step.tokens)
        whole = eos = self._is_eos[tokens]
        if self._until is not None:
            found = self._until.push(at, tokens) & ~eos
            self.finish[at[found]], whole = Finish.STOP, eos | found
        full = (self.lengths[at] >= self.limits[at]) & ~whole
        cut = full | (over & ~whole) if self.last else full
        self.finish[at[eos]], self.finish[at[cut]] = Finish.EOS, Finish.LENGTH
        return whole | full | over

    def due(self) -> Bool[np.ndarray, " m"]:
        """Active rows of problems whose weights have become so unequal that the step ends for all."""
        ended = np.zeros(len(self.rows), dtype=bool)
        if self._step.ess is None or not self.active.any():
            return ended
        log_w = self._logs[0] + self._logs[1] - self._logs[2]
        problems = self.rows // self._n
        for problem in np.unique(problems[self.active]):
            mine = problems == problem
            w = np.zeros(self._n)  # a text that had ended before has gained no weight
            w[self.rows[mine] % self._n] = log_w[mine]
            if w.max() == -np.inf:
                continue
            w = np.exp(w - w.max())
            if w.sum() ** 2 / (w**2).sum() < self._step.ess * self._n:
                ended |= mine & self.active
        return ended

    def end(self, ended: Bool[np.ndarray, " m"]) -> None:
        """These rows end their step here."""
        if self.last:
            self.finish[ended] = Finish.LENGTH
        self.active &= ~ended

    def tokens(self, at: int) -> list[int]:
        """What row `at` has written in this step."""
        return self._tokens[at, : self.lengths[at]].tolist()

    def extension(self) -> Extension:
        """The step, now that it has ended for all rows."""
        if self._given is not None:
            wanted = (self._given >= 0).sum(1)
            short = (self.lengths < wanted) & (self.finish != Finish.DEAD)
            if short.any():
                raise _unlike(self.tokens(int(np.flatnonzero(short)[0])), "ends a step already")
        cut = np.flatnonzero((self.finish == _LENGTH) | (self.finish == _STOP))
        for factor in self._factors:
            if len(cut):
                self._logs[1, cut] += factor.log_cut(self.rows[cut])
        return self.so_far()

    def so_far(self) -> Extension:
        """The step as it is; what factors say of a text that is cut off comes at the end."""
        width = int(self.lengths.max(initial=0))
        base, factor, proposal = self._logs
        return Extension(self._tokens[:, :width], self.lengths, base, factor, proposal, self.finish)


def _table(
    rows: np.ndarray, given: Mapping[int, Sequence[int]], vocab: int
) -> Int[np.ndarray, "m k"]:
    """Given tokens by row: -1 where they are drawn, `_OVER` behind the last."""
    table = np.full((len(rows), max(map(len, given.values())) + 1), -1, dtype=np.int64)
    for at, row in enumerate(rows.tolist()):
        if row in given:
            table[at] = _OVER
            table[at, : len(given[row])] = given[row]
    wrong = [i for tokens in given.values() for i in tokens if not 0 <= i < vocab]
    if wrong:
        raise InvalidArgument("reference", wrong[0], f"token ids in [0, {vocab})")
    return table


def _unlike(tokens: list[int], what: str) -> InvalidArgument:
    got = f"a step that begins with the tokens {tokens[:20]}, which {what}"
    return InvalidArgument("reference", got, "a text of this model, in its steps")
