"""`Tilt`: a reward made a potential, with a strength, a scale and a choice of intermediate twists.

The target is `p(x) exp(strength * scale(r(x)))` whatever the twist; the twist decides what guides the particles
before the end, and changes only the variance. If the reward at a prefix is the probability that the text
will come out right, then `scale="log"`, `twist="value"` is the optimal twist: `psi_t = P(right | x_{0:t})`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float64, Int

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument, RewardError, UnknownName
from smcgen.text.potentials import aggregate
from smcgen.text.potentials.base import Potential, Twist
from smcgen.text.prompts import Prompt
from smcgen.text.rewards.base import Reward, RewardSession
from smcgen.text.texts import Texts

Scale = Literal["log", "logit", "identity"]
_EDGE = 1e-9  # a logit has no value at 0 and 1


@dataclass(frozen=True)
class Tilt(Twist):
    """`log psi_t = strength * scale(twist(s_1..s_t))`, and at the end `strength * scale(outcome(s_1..s_T))`.

    Attributes:
        reward: gives the score `s_t` of a text after each of its steps.
        strength: lambda.
        twist: what guides before the end, a function of the scores so far:
            "value" the last score (FK steering's "difference": `G_t = exp(lambda (r_t - r_{t-1}))`),
            "product", "min", "mean", "max", "sum" of all scores so far, or "none": no guidance, plain
            importance sampling, and the reward is asked only about finished texts. Or any function
            of the history, shape (rows, steps), NaN where there is no step.
        outcome: `r(x)`: the same choices, on the scores of the whole text; "value" is the last score.
        scale: how a score becomes nats: "log" (of a probability: the target is p(x) s(x)^lambda),
            "logit" (log s/(1 - s): p(x) (s/(1-s))^lambda) or "identity" (p(x) exp(lambda s)). Default:
            "log" for rewards that are probabilities, else "identity".
        absorbing: what -inf nats before the end mean. False: nothing yet (the twist stays as it
            was), since the end may still be possible; a verifier that accepts finished texts only
            is such a reward. True: a text that is impossible now stays impossible, and is given up.
        warmup: the twist's strength rises in proportion to the number of scores until there are this many, so that
            early scores, which say little, move few particles; the end has the full strength.
    """

    reward: Reward
    strength: float = 1.0
    twist: str | aggregate.Aggregate = "value"
    outcome: str | aggregate.Aggregate = "value"
    scale: Scale | None = None
    absorbing: bool = False
    warmup: int = 0

    def __post_init__(self) -> None:
        if not np.isfinite(self.strength):
            raise InvalidArgument("strength", self.strength, "a finite number")
        if self.scale is not None and self.scale not in get_args(Scale):
            raise UnknownName("scale", self.scale, get_args(Scale))
        if self.scale in ("log", "logit") and not self.reward.probability:
            raise InvalidArgument(
                "scale", self.scale, "'identity': the reward's scores are not probabilities"
            )
        if self.warmup < 0:
            raise InvalidArgument("warmup", self.warmup, "a number of steps >= 0")
        if self.twist != "none":
            aggregate.resolve("twist", self.twist)
        aggregate.resolve("outcome", self.outcome)
        if self.outcome == "sum" and self._scale != "identity":
            raise InvalidArgument("outcome", "sum", "another: a sum of probabilities is not one")

    @property
    def every_step(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The last score says it all, unless the outcome is made of all of them."""
        return self.outcome != "value" or self.absorbing

    @property
    def elsewhere(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the reward."""
        return self.reward.elsewhere

    @property
    def _scale(self) -> Scale:
        return self.scale or ("log" if self.reward.probability else "identity")

    def power(self, strength: float) -> Potential:
        return replace(self, strength=self.strength * strength)

    def open_twist(
        self, prompts: Sequence[Prompt], n: int, tokenizer: Any, meter: Meter
    ) -> "TiltSession":
        reward = self.reward.open_reward(prompts, n, tokenizer, meter)
        return TiltSession(self, reward, meter, len(prompts) * n)

    def log_psi(
        self, history: aggregate.History, ended: np.ndarray, before: np.ndarray
    ) -> Float64[np.ndarray, " rows"]:
        """log psi of histories of scores; terminal where `ended`; `before` is that of the last step."""
        values = np.zeros(len(history))
        if ended.any():
            values[ended] = self._nats(aggregate.resolve("outcome", self.outcome), history[ended])
        if not ended.all() and self.twist != "none":
            guide = aggregate.resolve("twist", self.twist)
            nats = self._nats(guide, history[~ended])
            if self.warmup:
                seen = (~np.isnan(history[~ended])).sum(1)
                nats = np.where(nats > -np.inf, nats * np.minimum(1, seen / self.warmup), nats)
            waits = (nats == -np.inf) & (not self.absorbing)
            values[~ended] = np.where(waits, before[~ended], nats)
        return values

    def _nats(self, of: aggregate.Aggregate, history: aggregate.History) -> np.ndarray:
        s = of(history)
        if self.strength == 0:  # 0 * -inf
            return np.zeros(len(s))
        if self._scale == "identity":
            return self.strength * s
        if self._scale == "logit":
            p = np.clip(s, _EDGE, 1 - _EDGE)
            return self.strength * (np.log(p) - np.log1p(-p))
        with np.errstate(divide="ignore"):
            return self.strength * np.log(s)


class TiltSession:
    """The scores of a population so far."""

    def __init__(self, tilt: Tilt, reward: RewardSession, meter: Meter, rows: int):
        self._tilt, self._reward, self._meter = tilt, reward, meter
        self._history = np.full((rows, 0), np.nan)
        self._log_psi = np.zeros(rows)
        self._broken = np.zeros(rows, bool)  # a score was NaN or +inf; no aggregate may hide it
        # without guidance only finished texts are scored, unless the outcome needs every step
        self._ends_only = tilt.twist == "none" and tilt.outcome == "value"

    def log_psi(self, texts: Texts, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        ended = texts.ended[rows]
        asked = rows[ended] if self._ends_only else rows
        if len(asked):
            with self._meter.reward():
                scores = np.asarray(self._reward.score(texts, asked), np.float64)
            self._append(asked, self._checked(scores, asked))
        values = self._tilt.log_psi(self._history[rows], ended, self._log_psi[rows])
        self._log_psi[rows] = np.where(self._broken[rows], np.nan, values)
        return self._log_psi[rows]

    def _checked(self, scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
        if scores.shape != rows.shape:
            raise RewardError(
                f"the reward returned shape {scores.shape}; expected {rows.shape}: one per text"
            )
        outside = (scores < 0) | (scores > 1)  # not NaN: that fails a particle, not the reward
        if self._tilt.reward.probability and outside.any():
            raise RewardError(
                f"reward {self._tilt.reward.display_name!r} returned {scores[outside][0]}: expected "
                "probabilities in [0, 1], because probability=True"
            )
        broken = np.isnan(scores) | (scores == np.inf)
        self._broken[rows] |= broken
        return np.where(broken, 0.0, scores)  # NaN marks "no step" in a history

    def _append(self, rows: np.ndarray, scores: np.ndarray) -> None:
        column = (~np.isnan(self._history[rows])).sum(1)
        missing = int(column.max()) + 1 - self._history.shape[1]
        if missing > 0:
            pad = np.full((len(self._history), missing), np.nan)
            self._history = np.concatenate([self._history, pad], 1)
        self._history[rows, column] = scores

    def mark(self) -> Any:
        return self.dump(), self._reward.mark()

    def rewind(self, mark: Any) -> None:
        self.load(mark[0])
        self._reward.rewind(mark[1])

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        self._history, self._log_psi = self._history[ancestors], self._log_psi[ancestors]
        self._broken = self._broken[ancestors]
        self._reward.take(ancestors)

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        self._reward.drop(rows)

    def scores(self) -> Float64[np.ndarray, " rows"]:
        return (
            aggregate.last(self._history)
            if self._history.shape[1]
            else np.full(len(self._history), np.nan)
        )

    def dump(self) -> Mapping[str, np.ndarray]:
        arrays = {"history": self._history, "log_psi": self._log_psi, "broken": self._broken}
        return {name: array.copy() for name, array in arrays.items()}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._history, self._log_psi = np.array(arrays["history"]), np.array(arrays["log_psi"])
        self._broken = np.array(arrays["broken"])

    def close(self) -> None:
        self._reward.close()
