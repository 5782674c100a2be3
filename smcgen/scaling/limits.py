"""Budgets enforced where the work is done: an engine and a reward that keep to a ledger.

Each prompt's running rows share what is left of its tokens: where their own limits add up to more than that, a step
gives each at most `left // running` tokens, so that their sum cannot exceed it. A prompt whose limit is hit writes
nothing more, and its texts are cut off.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument
from smcgen.scaling.ledger import Ledger, divided
from smcgen.text.engines.base import Engine, Extension, Law, Session
from smcgen.text.factors.base import TokenFactor
from smcgen.text.forwarding import Forwarding
from smcgen.text.potentials.algebra import Product
from smcgen.text.potentials.base import Potential
from smcgen.text.potentials.gate import GatedTwist
from smcgen.text.potentials.tilt import Tilt
from smcgen.text.prompts import Prompt
from smcgen.text.randomness import StepRandomness
from smcgen.text.rewards.base import Reward, RewardSession
from smcgen.text.rewards.wrapped import WrappedReward, WrappedSession
from smcgen.text.sampling import Sampling
from smcgen.text.steps import Step
from smcgen.text.stops import Until
from smcgen.text.texts import Finish, Texts


class LimitedEngine:
    """An engine whose sessions keep to a ledger."""

    def __init__(self, engine: Engine, ledger: Ledger):
        self._engine, self._ledger = engine, ledger
        self.tokenizer, self.vocab_size = engine.tokenizer, engine.vocab_size
        self.max_length = engine.max_length
        self.eos_ids, self.name = engine.eos_ids, engine.name

    def open(
        self,
        prompts: Sequence[Prompt],
        n: int,
        law: Law,
        meter: Meter,
        completions: Sequence[Sequence[int]] | None = None,
    ) -> Session:
        """A session that keeps to the ledger."""
        session = self._engine.open(prompts, n, law, meter, completions)
        return _LimitedSession(session, self._ledger, self._ledger.numbers(prompts), n, meter)

    def score(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Sequence[int]],
        sampling: Sampling = Sampling(),
        meter: Meter | None = None,
    ) -> list[Float64[np.ndarray, " tokens"]]:
        """As the engine's own: nothing is drawn."""
        return self._engine.score(prompts, completions, sampling, meter)


@dataclass
class _LimitedSession(Forwarding):
    session: Session
    ledger: Ledger
    problems: Int[np.ndarray, " p"]
    n: int
    meter: Meter

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
        owners = self.problems[rows // self.n]
        # with a reference to follow, a run is finished: cut off, it would not be one of its model's texts
        if self.ledger.late and given is None:
            self.ledger.exhaust(owners)
        running = np.bincount(owners, minlength=len(self.ledger.tokens))
        left = self.ledger.tokens_left()
        wanted = np.bincount(owners, limits, minlength=len(left))
        share = np.where(wanted <= left, left, left // np.maximum(running, 1))
        allowed = np.minimum(limits, share[owners])
        before = self.meter.count("tokens_generated")
        new = self.session.extend(rows, step, allowed, randomness, last, given, until)
        # an engine that is asked for whole completions may have drawn more than the step has: it is spent all the same
        spent = new.lengths.astype(np.int64)
        more = self.meter.count("tokens_generated") - before - int(spent.sum())
        if more > 0:
            spent += np.array(divided(more, spent))
        np.add.at(self.ledger.tokens, owners, spent)
        cut = (new.finish == Finish.LENGTH) & (allowed < limits) & (new.lengths >= allowed)
        self.ledger.exhaust(owners[cut])
        return new

    def log_continue(
        self,
        rows: Int[np.ndarray, " m"],
        tokens: Sequence[Sequence[int]],
        cut: Bool[np.ndarray, " m"],
    ) -> Float64[np.ndarray, " m"]:
        return self.session.log_continue(rows, tokens, cut)


@dataclass(frozen=True, eq=False)
class LimitedReward(WrappedReward):
    """A reward that is asked no more often than the ledger allows; then the last score of a text stands."""

    ledger: Ledger

    def open_reward(
        self, prompts: Sequence[Prompt], n: int, tokenizer: Any, meter: Meter
    ) -> RewardSession:
        session = self.reward.open_reward(prompts, n, tokenizer, meter)
        scores = np.full(len(prompts) * n, 1.0 if self.probability else 0.0)
        numbers = self.ledger.numbers(prompts)
        return _LimitedRewardSession(session, self.ledger, numbers, n, scores)


@dataclass
class _LimitedRewardSession(WrappedSession):
    ledger: Ledger
    problems: Int[np.ndarray, " p"]
    n: int
    scores: Float64[np.ndarray, " rows"]

    def score(self, texts: Texts, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        owners = self.problems[rows // self.n]
        wanted = np.bincount(owners, minlength=len(self.ledger.calls))
        asked = (wanted <= self.ledger.calls_left())[owners]
        self.ledger.exhaust(owners[~asked])
        if asked.any():
            np.add.at(self.ledger.calls, owners[asked], 1)
            self.scores[rows[asked]] = self.session.score(texts, rows[asked])
        return self.scores[rows]

    def mark(self) -> Any:
        return super().mark(), self.scores.copy()

    def rewind(self, mark: Any) -> None:
        super().rewind(mark[0])
        self.scores = mark[1]

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        super().take(ancestors)
        self.scores = self.scores[ancestors]


def limited(potential: Potential, ledger: Ledger) -> Potential:
    """A potential whose rewards keep to a ledger.

    Raises:
        InvalidArgument: it has a twist of the user's own, whose calls cannot be told.
    """
    inner = lambda part: limited(part, ledger)
    if isinstance(potential, Tilt):
        return replace(potential, reward=LimitedReward(potential.reward, ledger))
    if isinstance(potential, Reward):
        return Tilt(LimitedReward(potential, ledger))
    if isinstance(potential, Product):
        return Product(tuple(inner(part) for part in potential.parts))
    if isinstance(potential, GatedTwist):
        return replace(potential, twist=inner(potential.twist))
    if isinstance(potential, TokenFactor) or not potential.twists():
        return potential
    raise InvalidArgument("reward", potential, "rewards, tilts, token factors and their products")
