"""A language model small enough to enumerate: four characters and an end, texts of a few tokens.

`ToyEngine` is a complete `Engine` in numpy, so exact laws can be tested with thousands of runs; `Toy.law`
lists every text with its probability.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from smcgen.core.cost import Meter
from smcgen.text.engines.base import Extension, Law
from smcgen.text.prompts import Prompt
from smcgen.text.sampling import Sampling
from smcgen.text.texts import Finish

ALPHABET = "ab.\n"
EOS = len(ALPHABET)
VOCAB = EOS + 1


class ToyTokenizer:
    """One character, one token; `EOS` has no text."""

    chat_template = None

    def __call__(self, text: str) -> dict[str, list[int]]:
        return {"input_ids": [ALPHABET.index(c) for c in text]}

    def __len__(self) -> int:
        return VOCAB

    def get_vocab(self) -> dict[str, int]:
        return {token: i for i, token in enumerate(self.convert_ids_to_tokens(range(VOCAB)))}

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        return [(*ALPHABET, "<eos>")[i] for i in ids]

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return "".join(ALPHABET[i] for i in ids if i < EOS)


@dataclass(frozen=True)
class ToyEngine:
    """Next-token logits drawn once for every prefix; rows are walked through a tree of prefixes."""

    seed: int = 0
    max_tokens: int = 4
    tokenizer: Any = field(default_factory=ToyTokenizer)
    max_length: int = 64
    vocab_size: int = VOCAB
    eos_ids: frozenset[int] = frozenset({EOS})
    name: str = "toy"

    @property
    def logits(self) -> np.ndarray:
        """(prefixes, vocab); prefix (a, b, ...) has number ((0 * 4 + a + 1) * 4 + b + 1) ..."""
        count = sum(EOS**k for k in range(self.max_tokens + 1))
        return np.random.default_rng(self.seed).normal(size=(count, VOCAB)) * 1.2

    def law(self, max_tokens: int, sampling: Sampling = Sampling()) -> dict[tuple[int, ...], float]:
        """Log-probability of every text (EOS included, or cut at max_tokens)."""
        found: dict[tuple[int, ...], float] = {}
        frontier = {(): (0, 0.0)}
        table = warp(self.logits, sampling)
        for depth in range(max_tokens):
            wider = {}
            for ids, (node, lp) in frontier.items():
                for v in range(VOCAB):
                    new = ((*ids, v), lp + table[node, v])
                    if v == EOS or depth == max_tokens - 1:
                        found[new[0]] = new[1]
                    else:
                        wider[new[0]] = (node * EOS + v + 1, new[1])
            frontier = wider
        return {ids: lp for ids, lp in found.items() if lp > -np.inf}

    def open(
        self, prompts: Sequence[Prompt], n: int, law: Law, meter: Meter, completions: Any = None
    ) -> "ToySession":
        session = ToySession(self, len(prompts) * n, law, meter)
        for row, ids in enumerate(completions or ()):
            for v in ids:
                session.node[row] = session.node[row] * EOS + v + 1
        return session

    def score(self, prompts: Any, completions: Any, sampling: Any = Sampling(), meter: Any = None):
        raise NotImplementedError


def warp(logits: np.ndarray, s: Sampling) -> np.ndarray:
    """Log-probabilities under temperature, top-k, top-p; truncation row by row, without cleverness."""
    if s.temperature == 0:
        best = logits == logits.max(1, keepdims=True)
        return np.where(best, 0.0, -np.inf)
    if not s.truncates:
        scaled = logits / s.temperature
        return scaled - np.logaddexp.reduce(scaled, 1, keepdims=True)
    out = np.full_like(logits, -np.inf)
    for i, row in enumerate(logits):
        row = row / s.temperature
        p = np.exp(row - row.max())
        p /= p.sum()
        order = np.argsort(-p)[: s.top_k or None]
        kept = order[np.concatenate([[0.0], np.cumsum(p[order] / p[order].sum())[:-1]]) < s.top_p]
        out[i, kept] = np.log(p[kept] / p[kept].sum())
    return out


class ToySession:
    """Rows' places in the tree."""

    def __init__(self, engine: ToyEngine, rows: int, law: Law, meter: Meter):
        assert not law.factors, "the toy engine has no token factors"
        self.engine, self.meter = engine, meter
        self.base = warp(engine.logits, law.base)
        self.proposal = warp(engine.logits, law.proposal or law.base)
        self.node = np.zeros(rows, int)
        self.written: Callable[[np.ndarray], None] = lambda rows: None

    def extend(
        self, rows, step, limits, randomness, last=False, given=None, until=None
    ) -> Extension:
        m = len(rows)
        tokens = np.full((m, int(limits.max(initial=0))), -1)
        lengths, finish = np.zeros(m, np.int32), np.zeros(m, np.int8)
        log_base, log_proposal = np.zeros(m), np.zeros(m)
        finish[limits <= 0] = Finish.LENGTH
        active = np.flatnonzero(limits > 0)
        forced = np.full((tokens.shape[1] + 1, m), -1)  # by place in the step
        for i, row in enumerate(rows.tolist() if given else ()):
            if row in given:
                forced[: len(given[row]), i] = given[row]
        for j in range(tokens.shape[1] if len(active) else 0):
            node = self.node[rows[active]]
            cdf = np.cumsum(np.exp(self.proposal[node]), 1)
            u = randomness.uniforms(j)[rows[active]] * cdf[:, -1]
            v = (cdf <= u[:, None]).sum(1)
            v = np.where(forced[j, active] < 0, v, forced[j, active])
            tokens[active, j] = v
            lengths[active] += 1
            log_base[active] += self.base[node, v]
            log_proposal[active] += self.proposal[node, v]
            go = v != EOS
            self.node[rows[active[go]]] = node[go] * EOS + v[go] + 1
            finish[active[~go]] = Finish.EOS
            cut = go & (lengths[active] >= limits[active])
            finish[active[cut]] = Finish.LENGTH
            text = np.array([ALPHABET[i] if i < EOS else "" for i in v])
            ends = np.isin(text, step.delimiters) | (lengths[active] == (step.tokens or -1))
            if last:
                finish[active[go & ends]] = Finish.LENGTH
            if until is not None:
                stops = go & until.push(active, v)
                finish[active[stops]] = Finish.STOP
                ends |= stops
            active = active[go & ~cut & ~ends]
            if not len(active):
                break
        self.meter.add(tokens_generated=int(lengths.sum()))
        width = int(lengths.max(initial=0))
        zero = np.zeros(m)
        return Extension(
            tokens[:, :width].astype(np.int32), lengths, log_base, zero, log_proposal, finish
        )

    def log_continue(self, rows, tokens, cut) -> np.ndarray:
        total = np.zeros(len(rows))
        for i, (node, ids) in enumerate(zip(self.node[rows].tolist(), tokens, strict=True)):
            for v in ids:
                total[i] += self.base[node, v]
                node = node * EOS + v + 1
        return total

    def take(self, ancestors) -> None:
        self.node = self.node[ancestors]

    def drop(self, rows) -> None:
        """Nothing is held."""

    def close(self) -> None:
        """Nothing is held."""
