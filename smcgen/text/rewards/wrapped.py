"""What rewards that wrap another one share: its scale and name, and its session, moved as it is."""

from dataclasses import dataclass
from typing import Any

from smcgen.errors import InvalidArgument
from smcgen.text.forwarding import Forwarding
from smcgen.text.potentials.algebra import as_potential
from smcgen.text.rewards.base import Reward, RewardSession


@dataclass(frozen=True, eq=False)
class WrappedReward(Reward):
    """A reward around another: its scores have the inner one's scale, and messages name the inner one.

    Args:
        reward: a reward, or what `steer` takes as one.

    Raises:
        InvalidArgument: it is no single reward.
    """

    reward: Any

    def __post_init__(self) -> None:
        reward = as_potential(self.reward)
        if not isinstance(reward, Reward):
            raise InvalidArgument("reward", self.reward, "a single reward, not a product or a tilt")
        object.__setattr__(self, "reward", reward)

    @property
    def probability(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As of the reward."""
        return self.reward.probability

    @property
    def display_name(self) -> str:
        """As of the reward."""
        return self.reward.display_name


@dataclass
class WrappedSession(Forwarding):
    """A session around another: a subclass says what `score` is, all else is the inner one's."""

    session: RewardSession

    def mark(self) -> Any:
        return self.session.mark()

    def rewind(self, mark: Any) -> None:
        self.session.rewind(mark)
