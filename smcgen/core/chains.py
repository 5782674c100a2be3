"""Chains of paths: what particle Gibbs returns."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from smcgen.core._types import PyTree
from smcgen.core.status import SMCError, Status


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class Chains:
    """Markov chains of paths.

    Attributes:
        paths: leaves of shape (chains, draws, T + 1, ...); for a model that is not traceable `paths[chain][draw]`
            is a path, a list of records over time.
        log_evidence: of the filter behind each draw, shape (chains, draws). Not an unbiased one: it is conditional.
        moved: how often the state at each time was replaced in a sweep, shape (chains, draws, T + 1). Low values
            at early times say that there are too few particles, or no rejuvenation.
        status: a `Status` for each draw, shape (chains, draws).
    """

    paths: PyTree
    log_evidence: Any
    moved: Any
    status: Any

    @property
    def n_chains(self) -> int:
        """Chains."""
        return self.log_evidence.shape[0]

    @property
    def n_samples(self) -> int:
        """Draws of each chain."""
        return self.log_evidence.shape[1]

    @property
    def last(self) -> PyTree:
        """The latest path of each chain, chains leading: where to go on from."""
        if isinstance(self.paths, list):
            return [chain[-1] for chain in self.paths]
        return jax.tree.map(lambda x: x[:, -1], self.paths)

    @property
    def update_rate(self) -> np.ndarray:
        """How often the state at each time moved, over all chains and draws, shape (T + 1,)."""
        return np.asarray(self.moved).mean((0, 1))

    def map(self, fn: Callable[[PyTree], PyTree]) -> PyTree:
        """`fn(path)` of each path, with leading axes (chains, draws)."""
        if not isinstance(self.paths, list):
            return jax.vmap(jax.vmap(fn))(self.paths)
        values = [[fn(path) for path in chain] for chain in self.paths]
        stack = lambda rows: jax.tree.map(lambda *x: np.stack(x), *rows)
        return stack([stack(chain) for chain in values])

    def checked(self) -> "Chains":
        """Raise `SMCError` if a filter failed."""
        bad = np.argwhere(np.asarray(self.status) != Status.OK)
        if len(bad):
            chain, draw = bad[0].tolist()
            name = Status(int(np.asarray(self.status)[chain, draw])).name
            raise SMCError(f"the filter of chain {chain}, draw {draw} failed: {name}", self)
        return self

    def to_arviz(self, fn: Callable[[PyTree], PyTree] = lambda path: path) -> Any:
        """An ArviZ `InferenceData` of `fn(path)` (a pytree of arrays), for R-hat and effective sample sizes."""
        from smcgen.diagnostics.arviz import from_chains

        return from_chains(self, fn)

    def __repr__(self) -> str:
        size = f"n_chains={self.n_chains}, n_samples={self.n_samples}"
        if any(isinstance(x, Tracer) for x in jax.tree.leaves((self.log_evidence, self.moved))):
            return f"Chains(traced, {size})"
        rate = self.update_rate
        return f"Chains({size}, num_steps={len(rate) - 1}, update_rate={rate.min():.2f} to {rate.max():.2f})"


def collect(kept: Any) -> Chains:
    """Chains from sweeps: stacked by a scan (draws leading), or a list of them."""
    if type(kept) is list:
        paths = [sweep.paths for sweep in kept]
        if isinstance(paths[0], list):
            paths = [list(chain) for chain in zip(*paths, strict=True)]
        else:
            paths = jax.tree.map(lambda *x: jnp.stack(x, 1), *paths)
        rest = [np.stack([np.asarray(getattr(s, k)) for s in kept], 1) for k in _REST]
        return Chains(paths, *rest)
    swap = lambda x: jnp.swapaxes(x, 0, 1)
    return Chains(jax.tree.map(swap, kept.paths), *(swap(getattr(kept, k)) for k in _REST))


_REST = ("log_evidence", "moved", "status")


def starting_from(paths: PyTree, n_chains: int) -> Chains:
    """Chains that have only begun: one path each, chains leading."""
    empty = (np.zeros((n_chains, 1)),) * 3
    if isinstance(paths, list):
        return Chains([[path] for path in paths], *empty)
    return Chains(jax.tree.map(lambda x: jnp.asarray(x)[:, None], paths), *empty)
