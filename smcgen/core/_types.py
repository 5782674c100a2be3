"""Shapes of the core, in one place. `*problems` is empty for one problem, `(problems,)` for many."""

from typing import Any, TypeVar

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, UInt32

State = TypeVar("State")

RandomKey = Key[Array, "*problems"] | UInt32[Array, "*problems 2"]
LogWeights = Float[Array, "*problems n"]  # nats; normalised so that logsumexp over n is 0
# numpy where a model is driven from Python
LogG = Float[Array, "*problems n"] | Float[np.ndarray, "*problems n"]  # nats
Ancestors = Int[Array, "*problems n"] | Int[np.ndarray, "*problems n"]
PerProblem = Float[Array, "*problems"]
Mask = Bool[Array, "*problems"]
PyTree = Any
