"""Log-probabilities of given texts."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int

from smcgen.core.cost import Meter
from smcgen.text.engines._vllm.core import Core
from smcgen.text.engines.base import Law
from smcgen.text.sampling import Sampling


class _Given:
    """A `Writer` whose texts are there already, one row each."""

    factors = ()
    scores = None

    def __init__(
        self,
        core: Core,
        heads: Sequence[Sequence[int]],
        completions: Sequence[Sequence[int]],
        law: Law,
        meter: Meter,
        parents: Sequence[str | None],
    ):
        self.law, self._core, self._meter = law, core, meter
        self._heads, self._ids = heads, completions
        self.logs = [np.zeros(len(ids)) for ids in completions]
        self._read = np.zeros(len(completions), dtype=np.int64)  # tokens of a row that are scored
        self.requests: list[str | None] = [None] * len(completions)
        self.parents: list[str | None] = list(parents)

    @property
    def active(self) -> Sequence[int]:
        return [i for i, ids in enumerate(self._ids) if self._read[i] < len(ids)]

    @property
    def busy(self) -> bool:
        return bool(self.active)

    def text(self, row: int) -> list[int]:
        return [*self._heads[row], *self._ids[row][: self._read[row]]]

    def uniforms(self, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"] | None:
        return None  # nothing is drawn

    def given(self, rows: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"] | None:
        return None

    def put(self, rows: Int[np.ndarray, " m"], drawn: Float64[np.ndarray, "4 m"]) -> None:
        raise NotImplementedError

    def scored(self, row: int, logs: Float64[np.ndarray, " tokens"]) -> None:
        raise NotImplementedError

    def advance(self, rows: Int[np.ndarray, " m"]) -> tuple[Sequence[int], Sequence[int]]:
        raise NotImplementedError

    def read(self, tokens: int) -> None:
        self._meter.add(tokens_prefilled=tokens)

    def run(self) -> list[Float64[np.ndarray, " tokens"]]:
        """Score all texts; blocks."""
        try:
            if active := self.active:
                self._core.write(self, active)
        finally:
            self._core.abort(r for r in self.requests if r is not None)
            self._core.settle()
        return self.logs


class Passes(_Given):
    """One pass for each text, which vLLM reads as a prompt: the model's own law.

    What vLLM finds in its prefix cache it does not score, so the cache is used up to the end of the
    prompt and no further.
    """

    def text(self, row: int) -> list[int]:
        return [*self._heads[row], *self._ids[row]]

    def scores(self, row: int) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return len(self._heads[row])

    def scored(self, row: int, logs: Float64[np.ndarray, " tokens"]) -> None:
        self.logs[row] = logs[len(logs) - len(self._ids[row]) :]

    def advance(self, rows: Int[np.ndarray, " m"]) -> tuple[Sequence[int], Sequence[int]]:
        for row in rows.tolist():
            self._read[row] = len(self._ids[row])
            self.read(1)  # the last token of a text that is read was read, not written
        return [], []


class Steps(_Given):
    """Token by token, as if they had been drawn: any law."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self._log_base = np.zeros(len(self._ids))

    def given(self, rows: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
        return np.array([self._ids[row][self._read[row]] for row in rows.tolist()])

    def put(self, rows: Int[np.ndarray, " m"], drawn: Float64[np.ndarray, "4 m"]) -> None:
        self._log_base[rows] = drawn[1]

    def advance(self, rows: Int[np.ndarray, " m"]) -> tuple[Sequence[int], Sequence[int]]:
        for row in rows.tolist():
            self.logs[row][self._read[row]] = self._log_base[row]
            self._read[row] += 1
        self.read(len(rows))
        return [row for row in rows.tolist() if self._read[row] == len(self._ids[row])], []


def score(
    core: Core,
    heads: Sequence[Sequence[int]],
    completions: Sequence[Sequence[int]],
    sampling: Sampling,
    max_length: int,
    meter: Meter,
    parents: Sequence[str | None] | None = None,
) -> list[Float64[np.ndarray, " tokens"]]:
    """Log-probability of each token of each completion, which follows a text of its own.

    Requests that are paused behind these texts, the `parents`, spare reading them: a pass computes the last token of
    a text and its completion.
    """
    longest = max(len(head) + len(ids) for head, ids in zip(heads, completions, strict=True))
    # vLLM scores prompts under the model's own law, and wants room for a token more
    kind = Passes if sampling == Sampling() and longest < max_length else Steps
    known = [None] * len(heads) if parents is None else parents
    return kind(core, heads, completions, Law(sampling), meter, known).run()
