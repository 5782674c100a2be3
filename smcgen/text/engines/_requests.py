"""Engines that can only be asked for completions: a server, or an engine core in another process.

`RequestSession` makes steps of what a `Completer` returns. A step ends where the exact automaton says. What came after
that is discarded, which leaves the law of what is kept as it was: the end is a stopping time, and what is drawn after
it is drawn anew.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int

from smcgen.core.cost import Meter
from smcgen.errors import EngineError, InvalidArgument
from smcgen.text._torch.delimiter import delimiters
from smcgen.text.engines._completer import Completer, Completion, Request, checked
from smcgen.text.engines._writing import Writing
from smcgen.text.engines.base import Extension
from smcgen.text.prompts import Prompt
from smcgen.text.randomness import StepRandomness
from smcgen.text.sampling import Sampling
from smcgen.text.steps import Step
from smcgen.text.stops import Until
from smcgen.text.texts import Finish

_MOST_STOPS = 1024  # stop tokens sent with a request
_CHUNK = 16  # tokens asked for at a time where no stop token can say that a step ends
_SEEDS = 2**31  # what every server takes


class RequestSession:
    """A population that is kept as token ids, and written by requests.

    Args:
        completer: draws from the law that is asked for (the proposal, if there is one).
        tokenizer, vocab_size, max_length, eos_ids: of the engine.
        prompts, n, meter, completions: see `smcgen.text.engines.base.Engine.open`.
        rescore: whether base log-probabilities differ from those of the draws, and have to be asked for.
    """

    def __init__(
        self,
        completer: Completer,
        tokenizer: Any,
        vocab_size: int,
        max_length: int,
        eos_ids: frozenset[int],
        prompts: Sequence[Prompt],
        n: int,
        meter: Meter,
        completions: Sequence[Sequence[int]] | None = None,
        rescore: bool = False,
    ):
        self._completer, self._tokenizer = completer, tokenizer
        self._vocab_size, self._max_length, self._n = vocab_size, max_length, n
        self._meter, self._rescore = meter, rescore
        self._is_eos = np.zeros(vocab_size, dtype=bool)
        self._is_eos[list(eos_ids)] = True
        self._ids = [p.ids for p in prompts for _ in range(n)]
        if completions is not None:
            self._ids = [(*a, *map(int, b)) for a, b in zip(self._ids, completions, strict=True)]
        self._known = [0] * len(self._ids)  # tokens of each row that the engine has read or written
        self._stops: dict[tuple[str, ...], tuple[int, ...] | None] = {}

    def extend(
        self,
        rows: Int[np.ndarray, " m"],
        step: Step,
        limits: Int[np.ndarray, " m"],
        randomness: StepRandomness,
        last: bool = False,
        given: Mapping[int, Sequence[int]] | None = None,
        until: Until | None = None,
    ) -> Extension:
        """Write one step for `rows`; see `smcgen.text.engines.base.Session`.

        Draws come from a seed for each request, made of `randomness` and the request's place in the step.
        """
        if self._rescore and step.ess is not None:
            allowed = "None: whole steps are asked for, and weights are known when they are written"
            raise InvalidArgument("ess", step.ess, allowed)
        rows = np.asarray(rows, dtype=np.int64)
        limits = np.minimum(limits, [self._max_length - len(self._ids[r]) for r in rows.tolist()])
        limits = np.asarray(limits, dtype=np.int64).reshape(len(rows))
        told = (self._tokenizer, self._n, (), given, until)
        writing = Writing(rows, step, limits, last, self._is_eos, *told)
        if given:
            self._write(writing, np.flatnonzero(np.isin(rows, list(given))), given)
        bits = (randomness.uniforms(0)[rows] * 2.0**52).astype(np.uint64)
        stops = self._stop_ids(step)
        chunk = 0
        while writing.active.any():
            at = np.flatnonzero(writing.active)
            room = limits[at] - writing.lengths[at]
            if step.tokens is not None:
                room = np.minimum(room, step.tokens - writing.lengths[at])
            if stops is None or step.when is not None or until is not None:
                room = np.minimum(room, _CHUNK)
            asked = self._ask(rows[at], room, stops or self._eos, bits[at], chunk)
            self._keep(writing, at, asked, stops or self._eos)
            chunk += 1
        return writing.extension()

    def _write(
        self,
        writing: Writing,
        at: Int[np.ndarray, " a"],
        given: Mapping[int, Sequence[int]],
    ) -> None:
        """The step of rows whose tokens are given: they are scored where the others are drawn."""
        rows = writing.rows[at].tolist()
        starts = [len(self._ids[row]) for row in rows]
        logs = self._scores(rows, [given[row] for row in rows], drawn=True)
        for row in rows:
            self._ids[row] = (*self._ids[row], *given[row])  # `_keep` cuts it
        asked = [
            (start, Completion(given[row], x.tolist(), "length"), np.stack([x, x]))
            for row, start, x in zip(rows, starts, logs, strict=True)
        ]
        self._keep(writing, at, asked, self._eos)
        writing.given(at[writing.active[at]])  # none of them goes on

    def _scores(
        self, rows: Sequence[int], tokens: Sequence[Sequence[int]], drawn: bool
    ) -> list[Float64[np.ndarray, " k"]]:
        """Log-probabilities of tokens behind each row's text, under the law that is drawn from or the base law.

        Raises:
            InvalidArgument: that is not the model's own law, the only one that texts are scored under.
        """
        if self._completer.sampling != Sampling() and (drawn or not self._rescore):
            which = "proposal" if self._rescore else "sampling"
            allowed = (
                "Sampling() with a reference: this engine scores given texts under no other law"
            )
            raise InvalidArgument(which, self._completer.sampling, allowed)
        texts = [(*self._ids[row], *map(int, ids)) for row, ids in zip(rows, tokens, strict=True)]
        self._meter.add(tokens_prefilled=sum(map(len, texts)))
        return self._completer.score(texts, [len(self._ids[row]) for row in rows])

    def log_continue(
        self,
        rows: Int[np.ndarray, " m"],
        tokens: Sequence[Sequence[int]],
        cut: Bool[np.ndarray, " m"],
    ) -> Float64[np.ndarray, " m"]:
        """log p of tokens behind each row's text."""
        return np.array([x.sum() for x in self._scores(rows.tolist(), tokens, drawn=False)])

    def _ask(
        self,
        rows: Int[np.ndarray, " a"],
        room: Int[np.ndarray, " a"],
        stops: tuple[int, ...],
        bits: np.ndarray,
        chunk: int,
    ) -> list[tuple[int, Completion, Float64[np.ndarray, "2 k"]]]:
        """A completion of each row, with base and proposal log-probabilities of its tokens."""
        requests: list[Request] = []
        first: dict[Any, int] = {}
        copies: Counter[Any] = Counter()
        for row, most, word in zip(rows.tolist(), room.tolist(), bits.tolist(), strict=True):
            # copies have seeds in a row, so that they can be asked for as one request
            key = (row // self._n, self._ids[row])
            seed = first.setdefault(key, _seed(word, chunk)) + copies[key]
            copies[key] += 1
            requests.append(Request(self._ids[row], most, stops, seed % _SEEDS))
        completions = self._completer.complete(requests)
        if len(completions) != len(requests):
            raise EngineError(f"{len(completions)} completions came for {len(requests)} requests")
        logs = [
            checked(request, completion, self._vocab_size, self._completer.sampling)
            for request, completion in zip(requests, completions, strict=True)
        ]
        self._count(rows, requests, completions)
        for row, completion in zip(rows.tolist(), completions, strict=True):
            self._ids[row] = (*self._ids[row], *completion.tokens)  # `_keep` cuts it
        base = logs
        if self._rescore:
            starts = [len(request.ids) for request in requests]
            base = self._completer.score([self._ids[row] for row in rows.tolist()], starts)
            self._meter.add(tokens_prefilled=sum(len(self._ids[row]) for row in rows.tolist()))
        return [
            (len(request.ids), completion, np.stack([p, q]))
            for request, completion, p, q in zip(requests, completions, base, logs, strict=True)
        ]

    def _keep(
        self, writing: Writing, at: Int[np.ndarray, " a"], asked: list[Any], stops: tuple[int, ...]
    ) -> None:
        """Push tokens column by column, until each row's step ends or its completion does."""
        lengths = np.array([len(completion.tokens) for _, completion, _ in asked])
        before = writing.lengths[at]
        for j in range(int(lengths.max())):
            these = np.flatnonzero((lengths > j) & writing.active[at])
            if not len(these):
                break
            tokens = [asked[i][1].tokens[j] for i in these]
            logs = np.array([asked[i][2][:, j] for i in these]).T
            writing.push(at[these], np.stack([tokens, logs[0], np.zeros(len(these)), logs[1]]))
        kept = writing.lengths[at] - before
        known = set(stops)
        for i, row in enumerate(writing.rows[at].tolist()):
            start, completion, _ = asked[i]
            self._ids[row] = self._ids[row][: start + kept[i]]
            self._known[row] = len(self._ids[row])
            # the engine may know ends of text that its tokenizer does not name
            unasked = completion.finish == "stop" and completion.tokens[-1] not in known
            if unasked and kept[i] == lengths[i]:
                writing.active[at[i]], writing.finish[at[i]] = False, Finish.EOS

    def _count(
        self, rows: np.ndarray, requests: Sequence[Request], completions: Sequence[Completion]
    ) -> None:
        """Tokens written, those that are discarded included, and tokens read.

        Where the engine does not say what it read: what it has not seen yet, once for all copies.
        """
        read: dict[tuple[int, ...], int] = {}
        reported = written = 0
        for row, request, completion in zip(rows.tolist(), requests, completions, strict=True):
            written += len(completion.tokens)
            if completion.prefilled is None:
                new = len(request.ids) - self._known[row]
                known = read.setdefault(request.ids, new)
                read[request.ids] = min(known, new)
            else:
                reported += completion.prefilled
        read_now = reported + sum(read.values())
        self._meter.add(tokens_generated=written, tokens_prefilled=read_now)

    @cached_property
    def _eos(self) -> tuple[int, ...]:
        return tuple(np.flatnonzero(self._is_eos).tolist())

    def _stop_ids(self, step: Step) -> tuple[int, ...] | None:
        """Every token that can complete a delimiter, wherever it began, and the ends of text.

        None if they are too many to send. Then steps are written in chunks.
        """
        if not step.delimiters:
            return self._eos
        if step.delimiters not in self._stops:
            found = delimiters(self._tokenizer, step.delimiters, self._vocab_size)
            completes = (found.table[: found.found] == found.found).any(0)
            # a delimiter such as "\n\n" is then looked for at each "\n": a request more, no token more
            ids = tuple(np.flatnonzero(completes | self._is_eos).tolist())
            self._stops[step.delimiters] = ids if len(ids) <= _MOST_STOPS else None
        return self._stops[step.delimiters]

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        """Row i becomes a copy of row `ancestors[i]`."""
        self._ids = [self._ids[a] for a in ancestors.tolist()]
        self._known = [self._known[a] for a in ancestors.tolist()]

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        """Nothing is held for a row but its ids."""

    def close(self) -> None:
        """Forget the texts."""
        self._ids, self._known = [], []


def _seed(word: int, chunk: int) -> int:
    """31 bits from 52 and a counter, by one round of SplitMix64 (Steele, Lea and Flood, 2014)."""
    z = (word + (chunk + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return (z ^ (z >> 31)) >> 33
