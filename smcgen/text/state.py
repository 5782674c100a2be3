"""A population of texts in progress, and what is remembered of each of its steps."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from smcgen.core.cost import Meter
from smcgen.text.engines.base import Session
from smcgen.text.potentials.base import TwistSession
from smcgen.text.texts import TEXT_ARRAYS, Texts

ROW_ARRAYS = ("log_base", "log_psi", "step", "stop")  # of `TextState`


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


def as_wide(tokens: Sequence[Any]) -> list[np.ndarray]:
    """Tokens of records, padded at their ends to the width of the widest."""
    arrays = [np.asarray(t) for t in tokens]
    width = max(t.shape[-1] for t in arrays)
    room = lambda t: [(0, 0)] * (t.ndim - 1) + [(0, width - t.shape[-1])]
    return [np.pad(t, room(t), constant_values=-1) for t in arrays]


@dataclass(frozen=True)
class TextState:
    """A population of texts. Arrays are never changed in place; the sessions are handles."""

    texts: Texts
    log_base: np.ndarray  # log p(text), nats, per row
    log_psi: np.ndarray
    step: np.ndarray  # the latest step's tokens
    stop: np.ndarray  # where the search for stop strings stands, per row
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

    def dump(self) -> Mapping[str, np.ndarray]:
        """Texts, weights and what the twists must keep, as arrays."""
        arrays = {k: getattr(self.texts, k) for k in TEXT_ARRAYS}
        arrays |= {k: getattr(self, k) for k in ROW_ARRAYS}
        for i, twist in enumerate(self.twists):
            arrays |= {f"twist{i}/{k}": v for k, v in twist.dump().items()}
        return arrays | {"cost": self.meter.read().as_array()}

    def resumed(self, arrays: Mapping[str, np.ndarray]) -> "TextState":
        """This state, whose sessions are fresh, as it was when it gave `arrays`."""
        ended = np.flatnonzero(self.texts.ended)
        for i, twist in enumerate(self.twists):
            start = f"twist{i}/"
            twist.load({k[len(start) :]: v for k, v in arrays.items() if k.startswith(start)})
        for session in (*self.twists, self.engine):
            session.drop(ended)
        return replace(self, **{k: arrays[k] for k in ROW_ARRAYS})
