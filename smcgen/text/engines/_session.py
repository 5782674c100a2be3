"""A population in progress on a transformers model: the loop over tokens."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int, Int64
from torch import Tensor

from smcgen.core.cost import Meter
from smcgen.errors import SmcgenError
from smcgen.text._torch import CATCH_UP
from smcgen.text._torch.draw import allowed, draw, normalise, warp
from smcgen.text._torch.population import Population
from smcgen.text.engines._stop import Stop
from smcgen.text.engines.base import Extension, Law
from smcgen.text.factors.base import Setting
from smcgen.text.prompts import Prompt
from smcgen.text.randomness import StepRandomness
from smcgen.text.steps import Step
from smcgen.text.texts import Finish


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
        self._is_eos = np.zeros(vocab_size, dtype=bool)
        self._is_eos[list(eos_ids)] = True
        read = lambda count: meter.add(tokens_prefilled=count)
        self._population = Population(model, [p.ids[:-1] for p in prompts], n, read)
        read(len({p.ids for p in prompts}))  # the last token of each prompt, read when it is fed
        self._pending = np.repeat([p.ids[-1] for p in prompts], n)
        self._room = np.repeat([max_length - len(p.ids) for p in prompts], n)
        # tokens of resumed completions that the cache lacks; read when a row is first extended, if ever
        self._unread: list[Sequence[int]] = [()] * len(self._pending)
        if completions is not None:
            self._resume(completions)
        device = self._population.device
        setting = Setting(prompts, n, tokenizer, vocab_size, eos_ids, device, meter, completions)
        self._factors = [factor.open_factor(setting) for factor in law.factors]

    def _resume(self, completions: Sequence[Sequence[int]]) -> None:
        for row, ids in enumerate(completions):
            if len(ids):
                self._unread[row] = [int(self._pending[row]), *ids[:-1]]
                self._pending[row] = ids[-1]
                self._room[row] -= len(ids)

    def _catch_up(self, rows: Int[np.ndarray, " m"]) -> None:
        """Read what these rows' resumed completions hold and the cache does not."""
        while len(late := [row for row in rows.tolist() if len(self._unread[row])]):
            parts = [self._unread[row][:CATCH_UP] for row in late]
            counts = np.array([len(p) for p in parts])
            tokens = np.zeros((len(late), int(counts.max())), dtype=np.int64)
            for i, part in enumerate(parts):
                tokens[i, : len(part)] = part
                self._unread[late[i]] = self._unread[late[i]][CATCH_UP:]
            self._population.feed(
                np.array(late), tokens, counts, read=np.zeros((len(late), 0), int)
            )
            self._meter.add(tokens_prefilled=int(counts.sum()))

    def extend(
        self,
        rows: Int[np.ndarray, " m"],
        step: Step,
        limits: Int[np.ndarray, " m"],
        randomness: StepRandomness,
        last: bool = False,
    ) -> Extension:
        """Write one step for `rows`; see `smcgen.text.engines.base.Session`."""
        rows = np.asarray(rows, dtype=np.int64)
        m = len(rows)
        limits = np.minimum(limits, self._room[rows])
        finish = np.zeros(m, dtype=np.int8)
        lengths = np.zeros(m, dtype=np.int64)
        logs = np.zeros((3, m))  # base, factor, proposal
        columns: list[Int64[np.ndarray, " m"]] = []
        stop = Stop(step, self._tokenizer, self._vocab_size, m)
        finish[limits <= 0] = Finish.LENGTH
        active = np.flatnonzero(limits > 0)
        self._catch_up(rows[active])
        while len(active):
            these = rows[active]
            logits = self._population.feed(these, self._pending[these][:, None])
            uniforms = torch.from_numpy(randomness.uniforms(len(columns))[these])
            drawn = self._draw(logits, these, uniforms.to(logits.device))
            if np.isnan(drawn).any():
                raise SmcgenError("the model or a factor gave values that are not numbers (NaN)")
            tokens = drawn[0].astype(np.int64)
            dead = tokens < 0
            if dead.any():
                finish[active[dead]], logs[1, active[dead]] = Finish.DEAD, -np.inf
                active, these, tokens = active[~dead], these[~dead], tokens[~dead]
                drawn = drawn[:, ~dead]
            columns.append(np.full(m, -1))
            if not len(active):
                break
            columns[-1][active] = tokens
            logs[:, active] += drawn[1:]
            lengths[active] += 1
            self._pending[these] = tokens
            for factor in self._factors:
                factor.push(these, tokens)
            ended = stop.push(active, tokens)
            eos = self._is_eos[tokens]
            full = (lengths[active] >= limits[active]) & ~eos
            cut = full | (ended & ~eos) if last else full
            finish[active[eos]], finish[active[cut]] = Finish.EOS, Finish.LENGTH
            active = active[~(eos | full | ended)]
        self._room[rows] -= lengths
        self._meter.add(tokens_generated=int(lengths.sum()))
        cut = np.flatnonzero(finish == Finish.LENGTH)
        for factor in self._factors:
            if len(cut):
                logs[1, cut] += factor.log_cut(rows[cut])
        tokens = np.stack(columns, axis=1) if columns else np.zeros((m, 0), dtype=np.int64)
        width = int(lengths.max(initial=0))
        return Extension(tokens[:, :width], lengths, logs[0], logs[1], logs[2], finish)

    @torch.inference_mode()
    def _draw(
        self,
        logits: Float[Tensor, "m vocab"],
        rows: Int[np.ndarray, " m"],
        uniforms: Float64[Tensor, " m"],
    ) -> Float64[np.ndarray, "4 m"]:
        """Token, log p, log phi and log q of each row, in one transfer; token -1 where none is allowed."""
        log_p = warp(logits, self._law.base)
        log_q, log_phi, dead = log_p, None, None
        if self._law.proposal is not None:
            log_q = warp(logits, self._law.proposal).masked_fill(~allowed(log_p), -torch.inf)
        if self._factors:
            log_phi = self._factors[0].log_phi(rows)
            for factor in self._factors[1:]:
                log_phi = log_phi + factor.log_phi(rows)
            log_q = log_q + log_phi
        if log_q is not log_p:
            log_q, mass = normalise(log_q)
            dead = mass.isneginf()
        tokens = draw(log_q, uniforms)[:, None]
        at = lambda law: law.gather(1, tokens)[:, 0].double()
        base = at(log_p)
        factor = torch.zeros_like(base) if log_phi is None else at(log_phi)
        proposal = base if log_q is log_p else at(log_q)
        token = tokens[:, 0].double()
        if dead is not None:
            token = token.masked_fill(dead, -1.0)
        return torch.stack([token, base, factor, proposal]).cpu().numpy()

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        """Row i becomes a copy of row `ancestors[i]`."""
        self._population.take(ancestors)
        for factor in self._factors:
            factor.take(ancestors)
        self._pending, self._room = self._pending[ancestors], self._room[ancestors]
        self._unread = [self._unread[a] for a in ancestors.tolist()]

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
