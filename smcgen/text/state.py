"""A population of texts in progress, and what is remembered of each of its steps."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from smcgen.core.cost import Meter
from smcgen.text.engines.base import Session
from smcgen.text.potentials.base import TwistSession
from smcgen.text.texts import Texts


class TextRecord(NamedTuple):
    """One step of every particle, kept with `keep="particles"`; arrays have one row per particle.

    A reference of conditional SMC is such a record of one particle: one row per problem, and for a
    single prompt no axis of rows.
    """

    tokens: np.ndarray  # the step's token ids, -1 past each end
    log_psi: np.ndarray
    score: np.ndarray  # latest raw score of the first reward, NaN without one
    finish: np.ndarray
    log_base: np.ndarray  # log p of the text so far, nats


@dataclass(frozen=True)
class TextState:
    """A population of texts. Arrays are never changed in place; the sessions are handles."""

    texts: Texts
    log_base: np.ndarray  # log p(text), nats, per row
    log_psi: np.ndarray
    step: np.ndarray  # the latest step's tokens
    engine: Session
    twists: tuple[TwistSession, ...]
    meter: Meter

    def record(self) -> TextRecord:
        """The latest step."""
        log_psi, finish = self.log_psi, self.texts.finish
        return TextRecord(self.step, log_psi, self.scores(), finish, self.log_base)

    def scores(self) -> np.ndarray:
        """Latest raw score of each row by the first reward, NaN without one."""
        known = (w.scores() for w in self.twists)
        return next((s for s in known if s is not None), np.full(len(self.texts), np.nan))
