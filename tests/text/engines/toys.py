"""A token factor written for these tests, and engines on tiny random models."""

import functools
from typing import Any

import numpy as np
import torch
import transformers as tf

from smcgen.text.engines import Transformers
from smcgen.text.factors.base import TokenFactor
from smcgen.text.potentials.base import Potential
from smcgen.text.prompts import Prompt
from tests.text._torch.tiny import model
from tests.text.build import build
from tests.text.engines.tokenizers import word_level


@functools.cache
def engine(name: str = "qwen2") -> Transformers:
    return Transformers(model(name), word_level())


@functools.cache
def small(vocab: int = 5, seed: int = 0) -> Transformers:
    """A model of `vocab` words whose laws depend strongly on what was written."""
    lm = build(
        tf.LlamaForCausalLM,
        vocab,
        seed,
        hidden_size=16,
        intermediate_size=16,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=64,
        initializer_range=0.6,
        bos_token_id=None,
        eos_token_id=0,
    )
    return Transformers(lm, word_level(vocab))


def prompt(*ids: int) -> Prompt:
    return Prompt(ids, " ".join(map(str, ids)))


class Table(TokenFactor):
    """phi(v | previous token) from a table (vocab, vocab); texts cut off have the factor `cut`."""

    def __init__(self, log_phi: np.ndarray, cut: float = 0.0):
        self.table, self.cut = torch.as_tensor(log_phi, dtype=torch.float32), cut

    def power(self, strength: float) -> Potential:
        return Table(self.table.numpy() * strength, self.cut)

    def factors(self) -> tuple[TokenFactor, ...]:
        return (self,)

    def open_factor(self, setting) -> Any:
        return _TableSession(self, np.repeat([p.ids[-1] for p in setting.prompts], setting.n))


class _TableSession:
    def __init__(self, factor: Table, previous: np.ndarray):
        self.factor, self.previous = factor, previous

    def log_phi(self, rows: np.ndarray) -> torch.Tensor:
        return self.factor.table[torch.as_tensor(self.previous[rows])]

    def push(self, rows: np.ndarray, tokens: np.ndarray) -> None:
        self.previous[rows] = tokens

    def log_cut(self, rows: np.ndarray) -> np.ndarray:
        return np.full(len(rows), self.factor.cut)

    def take(self, ancestors: np.ndarray) -> None:
        self.previous = self.previous[ancestors]

    def drop(self, rows: np.ndarray) -> None:
        pass

    def close(self) -> None:
        """Nothing is held."""
