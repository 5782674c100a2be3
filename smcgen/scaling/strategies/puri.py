"""The particle filter of Puri et al. (2025), as published."""

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float64

from smcgen.errors import InvalidArgument, UnknownName
from smcgen.scaling.base import Rewarded
from smcgen.scaling.job import Job
from smcgen.text.model import TextModel
from smcgen.text.potentials.aggregate import History
from smcgen.text.potentials.tilt import Tilt
from smcgen.text.rewards.base import Reward
from smcgen.text.state import TextState

_EDGE = 1e-7  # scores are clipped there, as they do


def _identity(s: np.ndarray) -> np.ndarray:
    return s


def _log(s: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log(s)


def _logit(s: np.ndarray) -> np.ndarray:
    p = np.clip(s, _EDGE, 1 - _EDGE)
    return np.log(p) - np.log1p(-p)


_SCALES = {"identity": _identity, "log": _log, "logit": _logit}


@dataclass(frozen=True, kw_only=True)
class PuriParticleFilter(Rewarded):
    """Particles resampled after every step by the softmax of their *latest* scores, not of the scores' change.

    With `w(s) = exp(strength * scale(s))` a step's weights are `w(s_t)`, and resampling resets them, so that the
    product over steps is what the particles target:

        pi(x) ∝ p(x) prod_{t=1..T} w(s_t(x_{1:t}))

    A text is rewarded again for each of its steps, not once for what it is worth at its end: a long text of good steps
    gains over a short one, and an early score counts as much as the last. `particle-filter` has `p(x) w(s_T(x))`.

    Attributes:
        scale: "logit" (the published code: weights s / (1 - s)), "log" (weights s: a hidden Markov model whose
            emissions say "right so far") or "identity" (Algorithm 1 as printed: softmax of the scores).
        strength: inverse temperature of the softmax.
        ended: "reweight" (the published code: an ended text is weighted by its last score again in every round, so that
            the target depends on how long the slowest particle of the population takes) or "absorb" (an ended text has
            potential 1 from then on, and the target is as above with T the text's own number of steps).
        resampling: multinomial, as published.

    Z-hat is unbiased for the sum of `p(x) prod w` with `ended="absorb"`. The text of the highest last weight is
    chosen, as published, though those weights have been used for resampling already in the published code.

    Puri et al. (2025), arXiv:2502.01618, Algorithm 1.
    """

    scale: Literal["identity", "log", "logit"] | None = None
    ended: Literal["reweight", "absorb"] = "reweight"
    resampling: Any = "multinomial"

    name: ClassVar[str] = "particle-filter-puri"

    def __post_init__(self) -> None:
        if not np.isfinite(self.strength):
            raise InvalidArgument("strength", self.strength, "a finite number")
        if self.scale is not None and self.scale not in _SCALES:
            raise UnknownName("scale", self.scale, _SCALES)
        if self.ended not in ("reweight", "absorb"):
            raise UnknownName("ended", self.ended, ("reweight", "absorb"))

    def write(self, job: Job) -> None:
        reward = job.reward.reward if isinstance(job.reward, Tilt) else job.reward
        if not isinstance(reward, Reward):
            allowed = "one reward that scores each step, with strategy 'particle-filter-puri'"
            raise InvalidArgument("reward", job.reward, allowed)
        scale = self.scale or ("logit" if reward.probability else "identity")
        if scale != "identity" and not reward.probability:
            raise InvalidArgument("scale", scale, "'identity': the scores are not probabilities")
        nats = lambda s: self.strength * _SCALES[scale](s)
        total = lambda history: _total(nats, history)
        potential = Tilt(reward, 1.0, total, total, "identity")
        again = nats if self.ended == "reweight" else None
        n = job.budget.texts(job.writing.max_tokens, job.writing.steps)
        job.write(
            n,
            potential,
            model=lambda **parts: Reweighted(**parts, again=again),
            resampling=self.resampling,
            ess_threshold=1.0,
        )


def _total(nats: Any, history: History) -> Float64[np.ndarray, " rows"]:
    """The sum over a text's steps."""
    return np.where(np.isnan(history), 0.0, nats(history)).sum(1)


@dataclass(frozen=True)
class Reweighted(TextModel):
    """Texts of which the ended ones are weighted by `again(last score)` in every further round; None: by 1."""

    again: Any = None

    def step(self, key: Any, t: Any, state: TextState) -> tuple[TextState, Any]:
        before, running = state.texts.ended, ~np.ravel(self.done(state))
        state, log_g = super().step(key, t, state)
        if self.again is None:
            return state, log_g
        flat = np.array(log_g, np.float64).reshape(-1)
        rows = np.flatnonzero(before & np.repeat(running, state.texts.n))
        flat[rows] = self.again(state.scores()[rows])
        return state, flat.reshape(np.shape(log_g))
