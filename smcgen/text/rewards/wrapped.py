"""What rewards that wrap another one share: the inner one's session, moved as it is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from smcgen.text.rewards.base import RewardSession


@dataclass
class WrappedSession:
    """A session around another: a subclass says what `score` is, all else is the inner one's."""

    session: RewardSession

    def mark(self) -> Any:
        return self.session.mark()

    def rewind(self, mark: Any) -> None:
        self.session.rewind(mark)

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        self.session.take(ancestors)

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        self.session.drop(rows)

    def close(self) -> None:
        self.session.close()
