"""A reward that looks ahead: what a text is worth where a greedy continuation of it gets."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Int

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument
from smcgen.scaling.job import Job
from smcgen.scaling.limits import LimitedEngine
from smcgen.text.engines.base import Engine, Law
from smcgen.text.potentials.base import Potential
from smcgen.text.potentials.tilt import Tilt
from smcgen.text.prompts import Prompt
from smcgen.text.randomness import StepRandomness
from smcgen.text.rewards.base import Reward, RewardSession
from smcgen.text.rewards.wrapped import WrappedReward, WrappedSession
from smcgen.text.sampling import Sampling
from smcgen.text.steps import as_step
from smcgen.text.texts import Texts


@dataclass(frozen=True, eq=False)
class Lookahead(WrappedReward):
    """`r(x) = reward(x continued greedily by `steps` steps)`; a finished text is scored as it is.

    As a twist it changes what guides, not the target. Each call writes the continuations in a session of its own, which
    reads the texts again: on engines with a prefix cache that is cheap, elsewhere it is counted as prefilled tokens.
    The reward reads the continued texts from their beginning too. Strings that end a text are not looked for there.
    """

    engine: Engine
    steps: int
    step_rule: Any
    max_tokens: int

    def open_reward(
        self, prompts: Sequence[Prompt], n: int, tokenizer: Any, meter: Meter
    ) -> RewardSession:
        inner = self.reward.open_reward(prompts, n, tokenizer, meter)
        return _LookaheadSession(inner, self, tokenizer, meter)


class _Greedy(StepRandomness):
    """A greedy law asks for numbers and does not use them."""

    def __init__(self, rows: int):
        self._rows = rows

    def uniforms(self, position: int) -> Float64[np.ndarray, " rows"]:
        return np.full(self._rows, 0.5)


@dataclass
class _LookaheadSession(WrappedSession):
    part: Lookahead
    tokenizer: Any
    meter: Meter

    def score(self, texts: Texts, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        ended = texts.ended[rows]
        scores = np.zeros(len(rows))
        if ended.any():
            scores[ended] = self.session.score(texts, rows[ended])
        if not ended.all():
            scores[~ended] = self._ahead(texts, rows[~ended])
        return scores

    def _ahead(self, texts: Texts, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        part, m = self.part, len(rows)
        prompts = [texts.prompt(row) for row in rows.tolist()]
        going = texts.of_rows(rows, prompts, 1)
        room = part.engine.max_length - np.array([len(p.ids) for p in prompts])
        law, written = Law(Sampling(temperature=0.0)), [going.tokens(i) for i in range(m)]
        session = part.engine.open(prompts, 1, law, self.meter, written)
        for _ in range(part.steps):
            left = np.flatnonzero(~going.ended)
            if not len(left):
                break
            limits = np.minimum(part.max_tokens, room[left]) - going.lengths[left]
            new = session.extend(left, as_step(part.step_rule), limits, _Greedy(m))
            going = going.extended(left, new.tokens, new.lengths, new.finish)
        session.close()
        reward = part.reward.open_reward(prompts, 1, self.tokenizer, self.meter)
        scores = reward.score(going, np.arange(m))
        reward.close()
        return scores


def looking_ahead(job: Job, steps: int) -> Potential:
    """A job's reward, looking ahead.

    Raises:
        InvalidArgument: it is not one reward.
    """
    tilt = job.reward if isinstance(job.reward, Tilt) else None
    reward = tilt.reward if tilt else job.reward
    if not isinstance(reward, Reward):
        raise InvalidArgument("reward", job.reward, "one reward, for a strategy that looks ahead")
    engine = LimitedEngine(job.engine, job.ledger)
    ahead = Lookahead(reward, engine, steps, job.writing.step, job.writing.max_tokens)
    return replace(tilt, reward=ahead) if tilt else Tilt(ahead)
