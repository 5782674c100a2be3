"""A reward made worse on purpose: how much of a strategy's gain survives a verifier that errs?"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64, Int
from scipy.special import expit, logit, ndtri

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument
from smcgen.text.prompts import Prompt
from smcgen.text.rewards.wrapped import WrappedReward, WrappedSession
from smcgen.text.texts import Texts

_EDGE = 1e-9  # a logit has no value at 0 and 1


@dataclass(frozen=True)
class Degraded(WrappedReward):
    """A reward with errors that belong to the content: the same prefix has the same error wherever it turns up.

        s' = sigmoid(logit s + bias + noise * z)    z ~ N(0, 1), for a reward that is a probability
        s' = s + bias + noise * z                   for any other
        s' = max(s', high)                          with probability `false_positives`

    z and the false positives are drawn from a hash of seed, prompt and text, so that neither batching nor caching nor
    the number of particles changes them: asking again does not help, as with a model that is wrong. Errors of a text
    and of its continuation are independent.

    Args:
        reward: a reward, or what `steer` takes as one.
        noise: standard deviation, in the units above (nats of log-odds for a probability).
        bias: what is added to every score, in the same units. It moves no arg max, but moves weights.
        false_positives: share of texts and prefixes that are taken for right ones, in [0, 1].
        high: the score of what is taken for right; .99 for a probability, to be given for any other reward.
        seed: another seed gives other errors.

    Raises:
        InvalidArgument: an argument is not allowed, or it is no single reward.

    What imperfect verifiers do to resampling: Stroebl, Kapoor and Narayanan (2024), arXiv:2411.17501.
    """

    noise: float = field(default=0.0, kw_only=True)
    bias: float = field(default=0.0, kw_only=True)
    false_positives: float = field(default=0.0, kw_only=True)
    high: float | None = field(default=None, kw_only=True)
    seed: int = field(default=0, kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (np.isfinite(self.noise) and self.noise >= 0):
            raise InvalidArgument("noise", self.noise, "a number >= 0")
        if not np.isfinite(self.bias):
            raise InvalidArgument("bias", self.bias, "a finite number")
        if not 0 <= self.false_positives <= 1:
            raise InvalidArgument("false_positives", self.false_positives, "a number in [0, 1]")
        if self.high is None and self.reward.probability:
            object.__setattr__(self, "high", 0.99)
        if self.high is None and self.false_positives:
            raise InvalidArgument("high", None, "the score of a text that is taken for right")
        if self.reward.probability and not 0 <= (self.high or 0.0) <= 1:
            raise InvalidArgument("high", self.high, "a probability")

    def open_reward(
        self, prompts: Sequence[Prompt], n: int, tokenizer: Any, meter: Meter
    ) -> "_DegradedSession":
        return _DegradedSession(self.reward.open_reward(prompts, n, tokenizer, meter), self)

    def errors(self, scores: Any, texts: Texts, rows: Any) -> Float64[np.ndarray, " m"]:
        """The scores with their errors."""
        scores = np.asarray(scores, np.float64)
        if self.noise == self.bias == self.false_positives == 0:
            return scores
        uniforms = np.array([self._uniforms(texts, row) for row in rows.tolist()]).reshape(-1, 2)
        shift = self.bias + self.noise * ndtri(uniforms[:, 0])
        if self.probability:
            wrong = expit(logit(np.clip(scores, _EDGE, 1 - _EDGE)) + shift)
        else:
            wrong = scores + shift
        fooled = uniforms[:, 1] < self.false_positives
        return np.where(fooled, np.fmax(wrong, self.high or 0.0), wrong)

    def _uniforms(self, texts: Texts, row: int) -> Float64[np.ndarray, " 2"]:
        """Two numbers in (0, 1) that belong to a prompt with a text."""
        digest = hashlib.blake2b(digest_size=16)
        digest.update(np.array([self.seed, *texts.prompt(row).ids, -1], np.int64).tobytes())
        digest.update(np.array(texts.tokens(row), np.int64).tobytes())
        bits = np.frombuffer(digest.digest(), np.uint64) >> np.uint64(12)
        return (bits.astype(np.float64) + 0.5) / 2.0**52


@dataclass
class _DegradedSession(WrappedSession):
    """The reward's own session, with errors in what it says."""

    part: Degraded

    def score(self, texts: Texts, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        return self.part.errors(self.session.score(texts, rows), texts, rows)
