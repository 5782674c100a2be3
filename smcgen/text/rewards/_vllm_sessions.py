"""Populations whose texts a vLLM engine scores. The engine's prefix cache is all the cache there is."""

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float64, Int

from smcgen.core.cost import Meter
from smcgen.text.prompts import Prompt
from smcgen.text.rewards._cache import ScoreCache
from smcgen.text.rewards._classify import ClassifierSession
from smcgen.text.rewards._reading import StepReader
from smcgen.text.texts import Texts

if TYPE_CHECKING:
    import torch


class ProcessSession:
    """What each row has been read as; the cache of what the model made of it is the engine's."""

    def __init__(self, part: Any, prompts: Sequence[Prompt], n: int, tokenizer: Any, meter: Meter):
        rows = len(prompts) * n
        self._server, self._meter = part._server, meter
        self._reader = StepReader(part.format, part.tokenizer, tokenizer, part._width, rows)
        self._ids = [ids for p in prompts for ids in [self._reader.prompt(p)] * n]
        self._score = np.full(rows, np.nan)
        self._cache = ScoreCache(part.cache)

    def score(self, texts: Texts, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        behind = []
        for row in rows.tolist():
            if new := self._reader.new(texts, row):
                self._ids[row] = self._ids[row] + new  # a new list: copies of the row hold the old
                behind.append(row)
        ids = [self._ids[row] for row in behind]
        self._score[behind] = self._cache.scores(
            [_digest(i) for i in ids], lambda new: self._fresh([ids[k] for k in new])
        )
        return self._score[rows]

    def _fresh(self, ids: list[list[int]]) -> Float64[np.ndarray, " m"]:
        import torch

        from smcgen.text.rewards._scorer import probabilities

        heads, tokens = self._server(ids, words=self._reader.encoder.words)
        self._meter.add(reward_calls=len(ids), reward_tokens=tokens)
        return probabilities(torch.stack(heads), None)

    def mark(self) -> Any:
        return list(self._ids), self._reader.mark(), self._score.copy()

    def rewind(self, mark: Any) -> None:
        self._ids, reader, self._score = mark
        self._reader.rewind(reader)

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        self._reader.take(ancestors)
        self._ids = [self._ids[a] for a in ancestors.tolist()]
        self._score = self._score[ancestors]

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        pass

    def close(self) -> None:
        self._ids, self._cache = [], ScoreCache(0)


class VLLMClassifierSession(ClassifierSession):
    """Texts as they are, batched by the engine."""

    def __init__(self, part: Any, meter: Meter):
        super().__init__(part, part._config, meter)
        self._server = part._server
        self._longest = min(self._longest, self._server.longest)

    def _logits(
        self, encoded: list[dict[str, list[int]]]
    ) -> "tuple[Float[torch.Tensor, 'm labels'], int]":
        import torch

        types = [e.get("token_type_ids", ()) for e in encoded]
        split = [t.index(1) if 1 in t else None for t in types]
        heads, tokens = self._server([e["input_ids"] for e in encoded], split)
        return torch.stack(heads), tokens


def _digest(ids: Sequence[int]) -> bytes:
    """A key for a text, which may be long."""
    return hashlib.blake2b(np.asarray(ids, np.int64).tobytes(), digest_size=16).digest()
