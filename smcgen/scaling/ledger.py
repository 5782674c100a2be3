"""What each prompt has spent, and what it may still spend."""

import time
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
from jaxtyping import Bool, Int

from smcgen.core.cost import PEAKS, Cost
from smcgen.scaling.budget import Budget
from smcgen.text.prompts import Prompt

_NO_LIMIT = 2**48  # more than any search spends; the limits of many prompts still add up


class Ledger:
    """Counts per prompt; the only mutable part of a search's accounting.

    Attributes:
        tokens, calls: tokens drawn, and texts that rewards were asked to score, shape (problems,).
        halted: nothing more is written for these prompts.
        exhausted: a limit was hit.
        cost: of each prompt.
    """

    def __init__(self, budget: Budget, prompts: Sequence[Prompt]):
        self._budget, self._began = budget, time.monotonic()
        problems = len(prompts)
        self._prompts = prompts  # kept, so that no id is used twice
        self._numbers = {id(prompt): b for b, prompt in enumerate(prompts)}
        limit = lambda most: np.full(problems, _NO_LIMIT if most is None else most, np.int64)
        self._limits = limit(budget.tokens), limit(budget.reward_calls)
        self.tokens = np.zeros(problems, np.int64)
        self.calls = np.zeros(problems, np.int64)
        self.halted: Bool[np.ndarray, " problems"] = np.zeros(problems, bool)
        self.exhausted: Bool[np.ndarray, " problems"] = np.zeros(problems, bool)
        self.cost = [Cost() for _ in range(problems)]

    def numbers(self, prompts: Sequence[Prompt]) -> Int[np.ndarray, " p"]:
        """Which of the ledger's prompts these are; equal prompts are told apart as objects."""
        return np.array([self._numbers[id(prompt)] for prompt in prompts], np.int64)

    @property
    def late(self) -> bool:
        """Whether time is up."""
        limit = self._budget.seconds
        return limit is not None and time.monotonic() - self._began >= limit

    def tokens_left(self) -> Int[np.ndarray, " problems"]:
        """Tokens that each prompt may still draw; none if it is halted."""
        return np.where(self.halted, 0, np.maximum(0, self._limits[0] - self.tokens))

    def calls_left(self) -> Int[np.ndarray, " problems"]:
        """Texts of each prompt that may still be scored."""
        return np.maximum(0, self._limits[1] - self.calls)

    def pool(self, parts: Int[np.ndarray, " problems"]) -> None:
        """What is left of all prompts' limits is spread over them in proportion to `parts`: the sum stays the same."""
        for limits, spent, most in zip(
            self._limits,
            (self.tokens, self.calls),
            (self._budget.tokens, self._budget.reward_calls),
            strict=True,
        ):
            if most is not None and parts.sum() > 0:
                limits[:] = spent + (limits - spent).sum() * parts // parts.sum()

    def exhaust(self, problems: Any) -> None:
        """A limit is hit: these prompts' texts end here, if they had not been ended before."""
        self.exhausted[problems] |= ~self.halted[problems]
        self.halted[problems] = True

    def share(
        self,
        total: Cost,
        problems: Int[np.ndarray, " p"],
        tokens: Int[np.ndarray, " p"],
        calls: Int[np.ndarray, " p"],
    ) -> list[Cost]:
        """The cost of a run, divided among its prompts, and added to what they have spent.

        Tokens drawn are each prompt's own. Reward work and its time are divided by the texts that were asked about, and
        the rest by the tokens drawn: shares add up to the whole. Peak memory is that of all.
        """
        own = {"tokens_generated": tokens.tolist()}
        by_calls = ("reward_calls", "reward_tokens", "reward_seconds")
        for field in fields(Cost):
            if field.name in PEAKS:
                own[field.name] = [getattr(total, field.name)] * len(problems)
            elif field.name not in own:
                weights = calls if field.name in by_calls else tokens
                own[field.name] = divided(getattr(total, field.name), weights)
        shares = [Cost(**{k: v[i] for k, v in own.items()}) for i in range(len(problems))]
        for b, cost in zip(problems.tolist(), shares, strict=True):
            self.cost[b] = self.cost[b] + cost
        return shares


def divided(total: int | float, weights: Int[np.ndarray, " p"]) -> list:
    """Parts in proportion to the weights that sum to the total; whole numbers if it is one."""
    weights = weights if weights.sum() > 0 else np.ones_like(weights)
    edges = total * (np.cumsum(weights) / weights.sum())
    if isinstance(total, int):
        edges = np.floor(edges + 0.5).astype(np.int64)
    return np.diff(edges, prepend=edges.dtype.type(0)).tolist()
