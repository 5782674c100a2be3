"""Rewards: a score for a text, or for each of its prefixes.

A `Reward` is shared and stateless; `open` starts a `RewardSession` for one population, which may
keep a KV cache that moves with the particles. A reward says what it thinks of the text as it
stands; how scores become log-twists (strength, scale, aggregation) is the business of `Tilt`.
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float64, Int

from smcgen.core.cost import Meter
from smcgen.text.potentials.base import Potential, Twist
from smcgen.text.prompts import Prompt
from smcgen.text.texts import Texts


class RewardSession(Protocol):
    """A reward's state for one population.

    It counts its calls and tokens on the meter; the time of `score` is its caller's to count.
    """

    def score(self, texts: Texts, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        """Score of these rows' texts as they stand (a step, or the text, has just ended)."""
        ...

    def mark(self) -> Any:
        """The state now, for `rewind`."""
        ...

    def rewind(self, mark: Any) -> None:
        """Forget all that was scored since `mark`; nothing was taken or dropped meanwhile."""
        ...

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        """Row i becomes a copy of row `ancestors[i]`."""
        ...

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        """These rows are not scored again (unless `take` refills them)."""
        ...

    def close(self) -> None:
        """Free what the session holds."""
        ...


class Reward(Potential):
    """Base class of rewards.

    A reward is itself a potential: used as one, it is `Tilt(reward)` with its own defaults.

    Attributes:
        probability: scores are probabilities in [0, 1], which can be read on a log or logit scale.
        elsewhere: scores come from another device or a server, so texts that end a step early are scored at once, by
            another thread, while an engine that tells of them (`VLLM`) writes the others.
    """

    probability: bool = False
    elsewhere: bool = False

    @property
    def display_name(self) -> str:
        """What error messages call it."""
        return type(self).__name__

    def twists(self) -> "tuple[Twist, ...]":
        from smcgen.text.potentials.tilt import Tilt

        return Tilt(self).twists()

    def power(self, strength: float) -> Potential:
        from smcgen.text.potentials.tilt import Tilt

        return Tilt(self).power(strength)

    @abstractmethod
    def open_reward(
        self, prompts: Sequence[Prompt], n: int, tokenizer: Any, meter: Meter
    ) -> RewardSession:
        """State for a population of `len(prompts) * n` rows.

        `tokenizer` is the policy's. A session must cope with rows whose text it has not seen
        growing (a resumed run): it reads from `texts` whatever it has not read yet.
        """
