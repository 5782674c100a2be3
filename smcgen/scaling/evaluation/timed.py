"""A reward with a time limit: one that hangs fails instead, and its problem with it, not the whole evaluation."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument, RewardError
from smcgen.text.prompts import Prompt
from smcgen.text.rewards.wrapped import WrappedReward, WrappedSession
from smcgen.text.texts import Texts


def check_seconds(limit: float) -> None:
    """Raise `InvalidArgument` unless a call may take any time at all."""
    if not limit > 0:
        raise InvalidArgument("reward_timeout", limit, "None or a number of seconds > 0")


@dataclass(frozen=True)
class Timed(WrappedReward):
    """A reward of which every call must end within `seconds`.

    The call is made in a thread. One that does not return cannot be stopped: it is left behind, with its session.

    Raises:
        InvalidArgument: it is no single reward, or the limit is not positive.
        RewardError: in a run, if the time is over.
    """

    seconds: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_seconds(self.seconds)

    def open_reward(
        self, prompts: Sequence[Prompt], n: int, tokenizer: Any, meter: Meter
    ) -> "_TimedSession":
        open_ = lambda: self.reward.open_reward(prompts, n, tokenizer, meter)
        return _TimedSession(within(self.seconds, open_), self.seconds)


@dataclass
class _TimedSession(WrappedSession):
    """The reward's own session; nothing touches it once a call is left behind in it."""

    seconds: float
    left: bool = False

    def score(self, texts: Texts, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        try:
            return within(self.seconds, lambda: self.session.score(texts, rows))
        except TimeoutError as error:
            self.left = True
            raise RewardError(str(error)) from error

    def close(self) -> None:
        if not self.left:
            super().close()


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """What a call returns or raises, if it does so in time."""
    found: list[Any] = []
    raised: list[BaseException] = []

    def work() -> None:
        try:
            found.append(call())
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work, daemon=True, name="reward with a time limit")
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"the reward did not answer within {seconds:g} s")
    if raised:
        raise raised[0]
    return found[0]
