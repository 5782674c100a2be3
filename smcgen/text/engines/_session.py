"""A population in progress on a transformers model: the loop over tokens."""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from smcgen.core.cost import Meter
from smcgen.text._torch.given import log_given
from smcgen.text._torch.population import Population
from smcgen.text._torch.upload import upload
from smcgen.text.engines._law import draw_tokens
from smcgen.text.engines._writing import Writing
from smcgen.text.engines.base import Extension, Law
from smcgen.text.factors.base import Setting
from smcgen.text.prompts import Prompt
from smcgen.text.randomness import StepRandomness
from smcgen.text.steps import Step
from smcgen.text.stops import Until


class TransformersSession:
    """Rows of a `Population`, each with one token that is drawn but not yet in the cache.

    The prompt's last token is the first such `pending` token, so that a text is always one forward
    pass away from its next law and no logits need to be kept or moved.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        vocab_size: int,
        max_length: int,
        eos_ids: frozenset[int],
        prompts: Sequence[Prompt],
        n: int,
        law: Law,
        meter: Meter,
        completions: Sequence[Sequence[int]] | None,
    ):
        self._tokenizer, self._vocab_size, self._law, self._meter = (
            tokenizer,
            vocab_size,
            law,
            meter,
        )
        self._n = n
        self._is_eos = np.zeros(vocab_size, dtype=bool)
        self._is_eos[list(eos_ids)] = True
        read = lambda count: meter.add(tokens_prefilled=count)
        self._population = Population(model, [p.ids[:-1] for p in prompts], n, read)
        read(len({p.ids for p in prompts}))  # the last token of each prompt, read when it is fed
        self._pending = np.repeat([p.ids[-1] for p in prompts], n)
        self._room = np.repeat([max_length - len(p.ids) for p in prompts], n)
        if completions is not None:
            self._resume(completions)
        device = self._population.device
        setting = Setting(prompts, n, tokenizer, vocab_size, eos_ids, device, meter, completions)
        self._factors = [factor.open_factor(setting) for factor in law.factors]

    def _resume(self, completions: Sequence[Sequence[int]]) -> None:
        for row, ids in enumerate(completions):
            if len(ids):
                self._population.put_off(row, [int(self._pending[row]), *ids[:-1]])
                self._pending[row] = ids[-1]
                self._room[row] -= len(ids)

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
        """Write one step for `rows`; see `smcgen.text.engines.base.Session`."""
        rows = np.asarray(rows, dtype=np.int64)
        limits = np.minimum(limits, self._room[rows])
        told = (self._tokenizer, self._n, self._factors, given, until)
        writing = Writing(rows, step, limits, last, self._is_eos, *told)
        active = np.flatnonzero(writing.active)
        self._population.catch_up(rows[active], outputs=False)
        for position in count():
            if not len(active):
                break
            these = rows[active]
            logits = self._population.feed(these, self._pending[these][:, None])
            uniforms = torch.from_numpy(randomness.uniforms(position)[these])
            drawn = self._draw(logits, these, uniforms, writing.given(active))
            self._pending[these] = np.maximum(drawn[0], 0)
            active = active[~writing.push(active, drawn)]
            if step.ess is not None:
                writing.end(writing.due())
                active = active[writing.active[active]]
        self._room[rows] -= writing.lengths
        self._meter.add(tokens_generated=int(writing.lengths.sum()))
        return writing.extension()

    @torch.inference_mode()
    def _draw(
        self,
        logits: Float[Tensor, "m vocab"],
        rows: Int[np.ndarray, " m"],
        uniforms: Float64[Tensor, " m"],
        given: Int[np.ndarray, " m"] | None,
    ) -> Float64[np.ndarray, "4 m"]:
        """Token, log p, log phi and log q of each row, in one transfer; token -1 where none is allowed."""
        log_phi = None
        for factor in self._factors:
            more = factor.log_phi(rows)
            log_phi = more if log_phi is None else log_phi + more
        there = logits.device
        fixed = None if given is None else upload(given, there)
        law = self._law.base, self._law.proposal
        tokens, *logs = draw_tokens(logits, *law, log_phi, upload(uniforms, there), fixed)
        return torch.stack([tokens.double(), *logs]).cpu().numpy()

    def log_continue(
        self,
        rows: Int[np.ndarray, " m"],
        tokens: Sequence[Sequence[int]],
        cut: Bool[np.ndarray, " m"],
    ) -> Float64[np.ndarray, " m"]:
        """log p + log phi of tokens behind each row's text, in one pass over all of them."""
        self._population.catch_up(rows, outputs=False)
        logs = log_given(
            self._population, rows, self._pending[rows], tokens, self._law.base, self._vocab_size
        )
        self._meter.add(tokens_prefilled=sum(map(len, tokens)))
        parts = [factor.log_continue(rows, tokens, cut) for factor in self._factors]
        return sum(parts, np.array([x.sum() for x in logs]))

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        """Row i becomes a copy of row `ancestors[i]`."""
        self._population.take(ancestors)
        for factor in self._factors:
            factor.take(ancestors)
        self._pending, self._room = self._pending[ancestors], self._room[ancestors]

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        """Free what these rows hold."""
        self._population.drop(rows)
        for factor in self._factors:
            factor.drop(rows)

    def close(self) -> None:
        """Free everything."""
        self._population.close()
        for factor in self._factors:
            factor.close()
