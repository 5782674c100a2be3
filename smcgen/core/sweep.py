"""One sweep of particle Gibbs, for all chains at once: by `vmap` for traceable models, else one by one."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from smcgen.core._types import PyTree
from smcgen.core.backward import backward_lineages
from smcgen.core.body import Settings
from smcgen.core.chains import Chains
from smcgen.core.compile import inside_trace, jitted
from smcgen.core.genealogy import along, lineage_of
from smcgen.core.resolve import resolve
from smcgen.core.result import SMCResult
from smcgen.core.run import execute
from smcgen.errors import InvalidArgument


@dataclass(frozen=True)
class Plan:
    """What a sweep is, apart from model, key and paths."""

    settings: Settings
    backward: bool
    n_unconditional: int

    @property
    def free(self) -> Settings:
        """Settings of a filter without reference."""
        return replace(self.settings, ancestor_sampling=False)


class Sweep(NamedTuple):
    """What sweeps give; leading axis chains. `paths` of a host-driven model are a list over chains."""

    paths: PyTree
    log_evidence: Any  # of the latest sweep, shape (chains,)
    moved: Any  # how often the state at each time was replaced, shape (chains, T + 1)
    status: Any  # of the latest sweep


def run(model: Any, plan: Plan, key: Any, path: PyTree = None) -> SMCResult:
    """A filter, along a path if there is one."""
    settings = plan.free if path is None else plan.settings
    return execute(model, key, settings, "raise", path=path)


def pick(model: Any, plan: Plan, key: Any, result: SMCResult) -> tuple[PyTree, Any]:
    """A path drawn from a filter, and its particle at each time."""
    first, second = jax.random.split(key)
    last = result.sample(first)
    if plan.backward:
        lines = backward_lineages(model, result, second, last, only_resampled=True)[:, 0]
    else:
        lines = lineage_of(last[0], jnp.asarray(result.ancestors))
    return along(result.history, lines, result.log_weights.shape), lines


def exchange(key: Any, log_z: Any, n_chains: int) -> Any:
    """Which filter each chain goes on with: its own, or an unconditional one in proportion to its evidence.

    A Gibbs step for each chain in turn (Rainforth et al. 2016, algorithm 2); `log_z` has the chains' filters first.
    """
    nodes, free = jnp.arange(n_chains), jnp.arange(n_chains, log_z.shape[0])
    for j in range(n_chains):
        choices = jnp.concatenate([nodes[j : j + 1], free])
        k = jax.random.categorical(jax.random.fold_in(key, j), log_z[choices])
        taken = choices[k]
        free = jnp.where(free == taken, nodes[j], free)
        nodes = nodes.at[j].set(taken)
    return nodes


def replicate(reference: Any, n_chains: int) -> PyTree:
    """A start for each chain: one path for all, or the latest paths of earlier `Chains`."""
    if not isinstance(reference, Chains):
        if isinstance(reference, list):
            return [reference] * n_chains
        spread = lambda x: jnp.broadcast_to(jnp.asarray(x), (n_chains, *jnp.shape(x)))
        return jax.tree.map(spread, reference)
    if reference.n_chains != n_chains:
        raise InvalidArgument(
            "reference", f"{reference.n_chains} chains", f"{n_chains}, as n_chains"
        )
    return reference.last


class TracedSweeps:
    """All chains at once by `vmap`."""

    def __init__(self, model: Any, plan: Plan):
        self._model, self._plan = model, plan

    def start(self, key: Any, reference: Any, n_chains: int) -> PyTree:
        """Paths to start from: picked from unconditional filters, or the reference."""
        if reference is not None:
            return replicate(reference, n_chains)
        return self._run(_start, 1)(jax.random.split(key, n_chains), self._plan)

    def advance(self, key: Any, paths: PyTree, number: Any) -> Sweep:
        """`number` sweeps; it may be traced, so that one program serves warm-up and draws."""
        return self._run(_advance, 2)(key, paths, self._plan, jnp.asarray(number))

    def _run(self, function: Any, *static: int) -> Any:
        if inside_trace():
            return partial(function, self._model)
        return jitted(function, self._model, static=static)


def _start(model: Any, keys: Any, plan: Plan) -> PyTree:
    def one(key: Any) -> PyTree:
        first, second = jax.random.split(key)
        return pick(model, plan, second, run(model, plan, first))[0]

    return jax.vmap(one)(keys)


def _advance(model: Any, key: Any, paths: PyTree, plan: Plan, number: Any) -> Sweep:
    n_chains = jax.tree.leaves(paths)[0].shape[0]

    def one(i: Any, sweep: Sweep) -> Sweep:
        filters, picks, others, swap = jax.random.split(jax.random.fold_in(key, i), 4)
        each = jax.random.split(filters, n_chains)
        results = jax.vmap(lambda k, path: run(model, plan, k, path))(each, sweep.paths)
        nodes = jnp.arange(n_chains)
        if plan.n_unconditional:
            free = jax.vmap(lambda k: run(model, plan, k))(
                jax.random.split(others, plan.n_unconditional)
            )
            results = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), results, free)
            nodes = exchange(swap, results.log_evidence, n_chains)
            results = jax.tree.map(lambda x: x[nodes], results)
        each = jax.random.split(picks, n_chains)
        paths, lines = jax.vmap(lambda k, r: pick(model, plan, k, r))(each, results)
        moved = (lines != 0) | (nodes >= n_chains)[:, None]
        return Sweep(paths, results.log_evidence, sweep.moved + moved / number, results.status)

    zeros = jnp.zeros((n_chains, resolve(model).num_steps + 1))
    like = jax.eval_shape(lambda s: one(0, s), Sweep(paths, jnp.zeros(n_chains), zeros, None))
    start = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
    return jax.lax.fori_loop(0, number, one, start._replace(paths=paths))


class HostSweeps:
    """One chain after another, for models that are not traceable."""

    def __init__(self, model: Any, plan: Plan):
        self._model, self._plan = model, plan

    def start(self, key: Any, reference: Any, n_chains: int) -> PyTree:
        """Paths to start from: picked from unconditional filters, or the reference."""
        if reference is not None:
            return replicate(reference, n_chains)
        keys = [jax.random.split(k) for k in jax.random.split(key, n_chains)]
        model, plan = self._model, self._plan
        return [pick(model, plan, second, run(model, plan, first))[0] for first, second in keys]

    def advance(self, key: Any, paths: PyTree, number: int) -> Sweep:
        """`number` sweeps."""
        moved = np.zeros((len(paths), resolve(self._model).num_steps + 1))
        log_z = np.zeros(len(paths))
        for i in range(number):
            filters, picks, others, swap = jax.random.split(jax.random.fold_in(key, i), 4)
            each = jax.random.split(filters, len(paths))
            free = jax.random.split(others, max(self._plan.n_unconditional, 1))
            results = [
                run(self._model, self._plan, k, path) for k, path in zip(each, paths, strict=True)
            ]
            nodes = range(len(paths))
            if self._plan.n_unconditional:
                results += [run(self._model, self._plan, k) for k in free]
                log_z = jnp.asarray([r.log_evidence for r in results])
                nodes = exchange(swap, log_z, len(paths)).tolist()
            new = []
            for j, (k, node) in enumerate(
                zip(jax.random.split(picks, len(paths)), nodes, strict=True)
            ):
                path, lines = pick(self._model, self._plan, k, results[node])
                new.append(path)
                changed = (np.asarray(lines) != 0) | (node >= len(paths))
                moved[j, : len(changed)] += changed / number
            log_z = np.array([float(results[node].log_evidence) for node in nodes])
            paths = new
        return Sweep(paths, log_z, moved, np.zeros(len(paths), np.int32))
