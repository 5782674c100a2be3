"""Markov models: a Feynman-Kac model whose moves and weights can be asked apart.

    x_0 ~ M_0,   x_t ~ M_t(. | x_{t-1}),   G_0(x_0),   G_t(x_{t-1}, x_t)

The state is `x_t` itself, a pytree of arrays with the particle axis leading (after that of problems). What
the algorithms ask of a model follows from five functions of it: fused steps for particle filters, pinned
steps for conditional SMC, densities for ancestor and backward sampling and for smoothing.
"""

from abc import abstractmethod
from typing import Any

import jax

from smcgen.core._types import LogG, PyTree, RandomKey
from smcgen.core.feynman_kac import FeynmanKac, needs
from smcgen.core.reference import at, pinned, repeated


class Markov(FeynmanKac[PyTree]):
    """A model given by draws and densities. `log_m` and `log_initial` may be left out by those who need none.

    Example:
        A random walk observed in noise::

            class Walk(smcgen.Markov):
                num_steps = len(y) - 1
                def draw_initial(self, key, n): return jax.random.normal(key, (n,))
                def draw(self, key, t, x): return x + jax.random.normal(key, x.shape)
                def log_m(self, t, x_prev, x): return norm.logpdf(x, x_prev)
                def log_g(self, t, x_prev, x): return norm.logpdf(y[t], x, 0.5)
    """

    @abstractmethod
    def draw_initial(self, key: RandomKey, n: int) -> PyTree:
        """`x_0 ~ M_0`, n particles (of each problem)."""

    @abstractmethod
    def draw(self, key: RandomKey, t: Any, x_prev: PyTree) -> PyTree:
        """`x_t ~ M_t(. | x_{t-1})` for each particle."""

    @abstractmethod
    def log_g(self, t: Any, x_prev: PyTree | None, x: PyTree) -> LogG:
        """`log G_t(x_{t-1}, x_t)` of each particle, nats; `x_prev` is None at t = 0."""

    def log_initial(self, x: PyTree) -> LogG:
        """Log-density of `M_0` at each particle."""
        raise NotImplementedError

    def log_m(self, t: Any, x_prev: PyTree, x: PyTree) -> LogG:
        """Log-density of `M_t(x_t | x_{t-1})`, element by element."""
        raise NotImplementedError

    # ---- what algorithms ask ------------------------------------------------------------------

    def init(self, key: RandomKey, n: int) -> tuple[PyTree, LogG]:
        x = self.draw_initial(key, n)
        return x, self.log_g(0, None, x)

    def step(self, key: RandomKey, t: Any, state: PyTree) -> tuple[PyTree, LogG]:
        x = self.draw(key, t, state)
        return x, self.log_g(t, state, x)

    def init_pinned(self, key: RandomKey, n: int, reference: PyTree) -> tuple[PyTree, LogG]:
        x = pinned(self.draw_initial(key, n), reference, self._problems)
        return x, self.log_g(0, None, x)

    def step_pinned(
        self, key: RandomKey, t: Any, state: PyTree, reference: PyTree
    ) -> tuple[PyTree, LogG]:
        x = pinned(self.draw(key, t, state), reference, self._problems)
        return x, self.log_g(t, state, x)

    @needs("log_m")
    def log_transition(self, t: Any, previous: PyTree, current: PyTree) -> LogG:
        return self.log_m(t, previous, current) + self.log_g(t, previous, current)

    @needs("log_transition")
    def log_continue(self, t: Any, state: PyTree, path: PyTree) -> LogG:
        """The past beyond `x_{t-1}` does not matter, and the future beyond `x_t` is common to all."""
        n = jax.tree.leaves(state)[0].shape[1 if self._problems else 0]
        return self.log_transition(t, state, repeated(at(path, t), n, self._problems))

    @property
    def _problems(self) -> bool:
        return self.num_problems is not None
