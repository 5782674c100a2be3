"""A population in progress on vLLM."""

from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int

from smcgen.core.cost import Meter
from smcgen.text.engines._vllm.core import Core
from smcgen.text.engines._vllm.score import score
from smcgen.text.engines._writing import Writing
from smcgen.text.engines.base import Extension, Law
from smcgen.text.factors.base import Setting
from smcgen.text.prompts import Prompt
from smcgen.text.randomness import StepRandomness
from smcgen.text.steps import Step
from smcgen.text.stops import Until


class _Text(NamedTuple):
    """A text as its latest step behind what was there before, which copies have in common."""

    before: "_Text | None"
    ids: list[int]

    def whole(self) -> list[int]:
        """All of its token ids."""
        steps, text = [], self
        while text is not None:
            steps.append(text.ids)
            text = text.before
        return list(chain.from_iterable(reversed(steps)))


class VLLMSession:
    """Rows of texts, each with at most one request in the engine; a `Session` and a `Writer`."""

    def __init__(
        self,
        core: Core,
        tokenizer: Any,
        is_eos: np.ndarray,
        max_length: int,
        eos_ids: frozenset[int],
        device: Any,
        prompts: Sequence[Prompt],
        n: int,
        law: Law,
        meter: Meter,
        completions: Sequence[Sequence[int]] | None,
    ):
        self._core, self._tokenizer, self._is_eos, self._n = core, tokenizer, is_eos, n
        self.law, self._meter, self._max_length = law, meter, max_length
        written = completions if completions is not None else [()] * (len(prompts) * n)
        heads = [p.ids for p in prompts for _ in range(n)]
        self._texts = [_Text(None, [*head, *ids]) for head, ids in zip(heads, written, strict=True)]
        self._room = np.array([max_length - len(text.ids) for text in self._texts])
        setting = Setting(prompts, n, tokenizer, len(is_eos), eos_ids, device, meter, completions)
        self.factors = [factor.open_factor(setting) for factor in law.factors]
        meter.add(tokens_prefilled=len({p.ids for p in prompts}))  # the rest is told by `read`
        rows = len(self._texts)
        self.requests: list[str | None] = [None] * rows
        self.parents: list[str | None] = [None] * rows  # whose copy a row without a request is
        self._drawn = np.zeros((4, rows))
        self._writing: Writing | None = None
        self._at = np.zeros(rows, dtype=np.int64)  # place of a row in the step being written
        self._randomness: StepRandomness | None = None
        self._lockstep = False
        self._ended: Callable[[Writing], None] | None = None
        self._ahead: set[int] = set()  # rows that wait for the others, in lockstep
        core.joined(self)

    # ---- Session -------------------------------------------------------------------------------

    def extend(
        self,
        rows: Int[np.ndarray, " m"],
        step: Step,
        limits: Int[np.ndarray, " m"],
        randomness: StepRandomness,
        last: bool = False,
        given: Mapping[int, Sequence[int]] | None = None,
        until: Until | None = None,
        ended: Callable[[Writing], None] | None = None,
    ) -> Extension:
        """Write one step for `rows`; see `smcgen.text.engines.base.Session`."""
        rows = np.asarray(rows, dtype=np.int64)
        limits = np.minimum(limits, self._room[rows])
        told = (self._tokenizer, self._n, self.factors, given, until)
        writing = Writing(rows, step, limits, last, self._is_eos, *told)
        self._writing, self._randomness = writing, randomness
        self._lockstep = step.ess is not None
        self._ended = None if self._lockstep else ended  # it ends for all at once
        self._at[rows] = np.arange(len(rows))
        active = rows[writing.active]
        self._part(active)
        self._join(active)
        try:
            if len(active):
                self._core.write(self, active.tolist())
        finally:
            self._writing = self._randomness = self._ended = None
            self._ahead = set()
        for at, row in enumerate(rows.tolist()):
            self._texts[row] = _Text(self._texts[row], writing.tokens(at))
        self._room[rows] -= writing.lengths
        self._meter.add(tokens_generated=int(writing.lengths.sum()))
        return writing.extension()

    def log_continue(
        self,
        rows: Int[np.ndarray, " m"],
        tokens: Sequence[Sequence[int]],
        cut: Bool[np.ndarray, " m"],
    ) -> Float64[np.ndarray, " m"]:
        """log p + log phi of tokens behind each row's text, by a copy of its request."""
        heads = [self._texts[row].whole() for row in rows.tolist()]
        of = lambda row: self.requests[row] if self.parents[row] is None else self.parents[row]
        held = [of(row) for row in rows.tolist()]
        law = (self.law.base, self._max_length, self._meter)
        logs = score(self._core, heads, tokens, *law, held)
        parts = [factor.log_continue(rows, tokens, cut) for factor in self.factors]
        return sum(parts, np.array([x.sum() for x in logs]))

    def _part(self, rows: Int[np.ndarray, " m"]) -> None:
        """Copies that do not write now let go of the requests of rows that do: these will have other texts."""
        writes = set(rows.tolist())
        later = [row for row, of in enumerate(self.parents) if of is not None and row not in writes]
        if later:
            moving = {self.requests[row] for row in writes if self.parents[row] is None}
            self._let_go([row for row in later if self.parents[row] in moving])

    def _join(self, rows: Int[np.ndarray, " m"]) -> None:
        """Rows that begin with equal texts read them once: the first reads, the others copy it."""
        firsts: dict[tuple[int, ...], str] = {}
        for row in rows.tolist():
            if self.requests[row] is None and self.parents[row] is None:
                text = tuple(self._texts[row].whole())
                if text not in firsts:
                    firsts[text] = self.requests[row] = self._core.name(self, row)
                else:
                    self.parents[row] = firsts[text]

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        """Row i becomes a copy of row `ancestors[i]`.

        Of the copies of one text the first goes on with its request, the others will be forks of it.
        """
        ancestors = np.asarray(ancestors)
        order = np.flatnonzero(ancestors == np.arange(len(ancestors))).tolist()
        order += np.flatnonzero(ancestors != np.arange(len(ancestors))).tolist()
        old, parents = self.requests, self.parents
        self.requests, self.parents = [None] * len(old), [None] * len(old)
        heirs: set[int] = set()
        for row in order:
            a = int(ancestors[row])
            if parents[a] is not None:  # what it has is not its text yet
                self.parents[row] = parents[a]
            elif a in heirs:
                self.parents[row] = old[a]
            elif (request := old[a]) is not None:
                heirs.add(a)
                self.requests[row] = request
                self._core.move(request, self, row)
        spare = {a: r for a, r in enumerate(old) if r is not None and a not in heirs}
        self._leave(spare)
        self._lend(spare)
        self._texts = [self._texts[a] for a in ancestors.tolist()]
        self._room = self._room[ancestors]
        for factor in self.factors:
            factor.take(ancestors)

    def _leave(self, spare: dict[int, str]) -> None:
        """A request that copies wait for, and whose own row is another now, goes to one of them as it is."""
        owners = {request: a for a, request in spare.items()}
        for row, parent in enumerate(self.parents):
            if parent in owners:
                self.requests[row], self.parents[row] = spare.pop(owners.pop(parent)), None
                self._core.move(parent, self, row)

    def _lend(self, spare: dict[int, str]) -> None:
        """Requests of rows whose texts nobody has any more go to copies, which rewrite them; the rest end."""
        need = [row for row, parent in enumerate(self.parents) if parent is not None]
        for row in need:
            if row in spare:
                self.requests[row] = spare.pop(row)
        for row in need:
            if self.requests[row] is None and spare:
                self.requests[row] = request = spare.popitem()[1]
                self._core.move(request, self, row)
        self._core.abort(spare.values())

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        """Free what these rows hold."""
        self._let_go(np.asarray(rows).tolist())
        for factor in self.factors:
            factor.drop(rows)

    def _let_go(self, rows: Sequence[int]) -> None:
        self._core.abort(r for row in rows if (r := self.requests[row]) is not None)
        for row in rows:
            self.requests[row] = self.parents[row] = None

    def close(self) -> None:
        """Free everything."""
        self._core.gone(self)
        self._core.abort(r for r in self.requests if r is not None)
        self._core.settle()
        self.requests = [None] * len(self.requests)
        for factor in self.factors:
            factor.close()

    # ---- Writer --------------------------------------------------------------------------------

    @property
    def active(self) -> Sequence[int]:
        """Rows that write now."""
        return [row for row in self._left() if row not in self._ahead]

    @property
    def busy(self) -> bool:
        """Whether some row has not ended its step."""
        return bool(self._left())

    scores = None

    def scored(self, row: int, logs: Float64[np.ndarray, " tokens"]) -> None:
        """Nothing is scored."""

    def _left(self) -> list[int]:
        return [] if self._writing is None else self._writing.rows[self._writing.active].tolist()

    def text(self, row: int) -> list[int]:
        """Token ids of a row's prompt and all it has written, also in this step."""
        now = self._writing.tokens(int(self._at[row])) if self._writing else []
        return [*self._texts[row].whole(), *now]

    def uniforms(self, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        """For the next token of each row."""
        assert self._writing is not None
        assert self._randomness is not None
        places = self._writing.lengths[self._at[rows]]
        first = int(places[0])
        if (places == first).all():
            return self._randomness.uniforms(first)[rows]
        found = np.empty(len(rows))
        for place in np.unique(places).tolist():
            found[places == place] = self._randomness.uniforms(place)[rows[places == place]]
        return found

    def given(self, rows: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"] | None:
        """The next token of each row, -1 where it is drawn."""
        assert self._writing is not None
        return self._writing.given(self._at[rows])

    def put(self, rows: Int[np.ndarray, " m"], drawn: Float64[np.ndarray, "4 m"]) -> None:
        """Keep what was drawn until it counts."""
        self._drawn[:, rows] = drawn

    def advance(self, rows: Int[np.ndarray, " m"]) -> tuple[Sequence[int], Sequence[int]]:
        """Rows that got their token: which pause now, and which paused ones go on."""
        writing = self._writing
        assert writing is not None
        ended = writing.push(self._at[rows], self._drawn[:, rows])
        if self._ended is not None:
            self._ended(writing)
        if not self._lockstep:
            return rows[ended].tolist(), []
        # the step ends for all rows of a problem at once: nobody may be ahead when that is decided
        if not self._ahead and len(rows) - ended.sum() == writing.active.sum():  # nobody is
            due = writing.due()
            writing.end(due)
            return [*rows[ended].tolist(), *writing.rows[due].tolist()], []
        self._ahead |= set(rows[~ended].tolist())
        if self._ahead != set(self._left()):
            return rows.tolist(), []
        due = writing.due()
        writing.end(due)
        mine, ahead, self._ahead = set(rows.tolist()), self._ahead, set()
        over = set(writing.rows[due].tolist()) | set(rows[ended].tolist())
        return sorted(mine & over), sorted(ahead - mine - over)

    def read(self, tokens: int) -> None:
        """Count tokens that were computed but not written."""
        self._meter.add(tokens_prefilled=tokens)
