"""When the rows of a step stop: delimiters, a token budget, or the user's own function."""

from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from smcgen.text._torch.delimiter import delimiters
from smcgen.text.detokenize import Detokenizer
from smcgen.text.steps import Step


class Stop:
    """The state of `step` for `m` rows that all start together."""

    def __init__(self, step: Step, tokenizer: Any, vocab_size: int, m: int):
        self._step, self._tokenizer = step, tokenizer
        self._written = 0
        self._state = np.zeros(m, dtype=np.int64)
        self._delimiters = None
        if step.delimiters:
            self._delimiters = delimiters(tokenizer, step.delimiters, vocab_size)
        self._streams: dict[int, Detokenizer] = {}
        self._soft: dict[int, Any] = {}

    def push(
        self, active: Int[np.ndarray, " a"], tokens: Int[np.ndarray, " a"]
    ) -> Bool[np.ndarray, " a"]:
        """Rows `active`, as indices below m, got one token each; which of them end their step."""
        self._written += 1
        ended = np.full(len(active), self._written == self._step.tokens)
        if self._delimiters is not None:
            self._state[active], found = self._delimiters.step(self._state[active], tokens)
            ended |= found
        if self._step.when is not None:
            ended |= [
                self._asks(i, t) for i, t in zip(active.tolist(), tokens.tolist(), strict=True)
            ]
        return ended

    def _asks(self, row: int, token: int) -> bool:
        assert self._step.when is not None
        if self._step.on == "ids":
            self._soft.setdefault(row, []).append(token)
            return bool(self._step.when(list(self._soft[row])))
        if row not in self._streams:
            self._streams[row], self._soft[row] = Detokenizer(self._tokenizer), ""
        self._soft[row] += self._streams[row].push([token])
        return bool(self._step.when(self._soft[row]))
