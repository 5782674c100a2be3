"""Who runs the loop: `lax` for models that JAX can trace, Python for models that it cannot.

The algorithm is written once over these two operations.
"""

from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np

from smcgen.core._types import PyTree


class Driver(Protocol):
    """Control flow.

    Attributes:
        ahead: whether it pays to decide what the next step resamples along with this step's weights.
    """

    ahead: bool

    def cond(self, pred: Any, then: Callable, otherwise: Callable, *operands: Any) -> Any:
        """`then(*operands)` if any of `pred` is true, else `otherwise(*operands)`."""
        ...

    def loop(self, body: Callable, carry: Any, first: int, last: int) -> tuple[Any, PyTree]:
        """`carry, info = body(carry, t)` for t = first..last, and all infos."""
        ...


class TracedDriver:
    """`lax.cond` and `lax.scan`."""

    ahead = False  # XLA sees both

    def cond(self, pred: Any, then: Callable, otherwise: Callable, *operands: Any) -> Any:
        """Both branches are traced."""
        return jax.lax.cond(jnp.any(pred), then, otherwise, *operands)

    def loop(self, body: Callable, carry: Any, first: int, last: int) -> tuple[Any, PyTree]:
        """One scan."""
        return jax.lax.scan(body, carry, jnp.arange(first, last + 1, dtype=jnp.int32))


class HostDriver:
    """Python `if` and `for`.

    Args:
        stop: `stop(carry)` ends the loop before the next step.
        after: `after(t, carry, info, infos)` is called when step t is finished.

    Attributes:
        carry, infos: where the loop is; they survive an exception in a step.
    """

    ahead = True  # each would be a dispatch of its own

    def __init__(self, stop: Callable[[Any], bool], after: Callable[[int, Any, Any, list], None]):
        self._stop, self._after = stop, after
        self.carry: Any = None
        self.infos: list[Any] = []

    def cond(self, pred: Any, then: Callable, otherwise: Callable, *operands: Any) -> Any:
        """One branch runs."""
        return then(*operands) if np.asarray(pred).any() else otherwise(*operands)

    def loop(self, body: Callable, carry: Any, first: int, last: int) -> tuple[Any, list]:
        """A for loop that can end early; infos stay a list."""
        self.carry = carry
        for t in range(first, last + 1):
            if self._stop(self.carry):
                break
            carry, info = body(self.carry, t)
            self.carry = carry
            self.infos.append(info)
            self._after(t, carry, info, self.infos)
        return self.carry, self.infos
