"""What rewards that wrap another one share: its scale and name, and its session, moved as it is."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from smcgen.text.rewards.base import Reward, RewardSession


class WrappedReward(Reward):
    """A reward around another: its scores have the inner one's scale, and messages name the inner one."""

    reward: Reward

    @property
    def probability(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As of the reward."""
        return self.reward.probability

    @property
    def display_name(self) -> str:
        """As of the reward."""
        return self.reward.display_name


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
