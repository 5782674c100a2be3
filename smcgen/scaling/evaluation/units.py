"""What is to be done: every problem by every strategy at every budget with every seed, in pieces of one engine call."""

import hashlib
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import jax

from smcgen.errors import InvalidArgument
from smcgen.scaling.base import Strategy
from smcgen.scaling.budget import Budget, as_budget
from smcgen.scaling.evaluation.records import Key, budget_name, budget_size
from smcgen.scaling.evaluation.tasks import Problem, Task
from smcgen.scaling.registry import as_strategy

_ROWS = 2048  # texts in one batch: beyond it, a cache costs memory and brings no speed
_MOST = 64  # problems in one batch: what a kill loses at most


@dataclass(frozen=True)
class Unit:
    """Problems for one engine call, by a strategy, or by several that choose among the same texts."""

    strategies: Mapping[str, Strategy]
    budget: Budget
    seed: int
    reward: str | None
    problems: Sequence[Problem]

    def key(self, problem: Problem, strategy: str) -> Key:
        """What a problem's record is about."""
        return Key(problem.id, self.reward, strategy, budget_name(self.budget), self.seed)


@dataclass(frozen=True)
class Plan:
    """Strategies by the names they have in records, rewards' names, budgets by theirs, and seeds."""

    task: Task
    strategies: Mapping[str, Strategy]
    rewards: Sequence[str]
    budgets: Mapping[str, Budget]
    seeds: Sequence[int]
    batch: int | None = None

    def cells(self) -> list[tuple[str | None, str, str]]:
        """(reward, strategy, budget) of all that is compared."""
        found: list[tuple[str | None, str, str]] = []
        for name, strategy in self.strategies.items():
            for reward in self.rewards if strategy.needs_reward else (None,):
                found += [(reward, name, budget) for budget in self.budgets]
        return found

    def units(self, done: Container[Key] = ()) -> Iterator[Unit]:
        """What is not done yet. Seed by seed and from small budgets to large, so that an early stop has something."""
        for seed in self.seeds:
            for reward, budget, names in self.groups():
                unit = Unit({}, self.budgets[budget], seed, reward, ())
                left: dict[tuple[str, ...], list[Problem]] = {}
                for p in self.task:
                    missing = tuple(name for name in names if unit.key(p, name) not in done)
                    left.setdefault(missing, []).append(p)
                size = self.batch or min(_MOST, max(1, _ROWS // (unit.budget.rollouts or 64)))
                for missing in filter(None, left):
                    strategies = {name: self.strategies[name] for name in missing}
                    for start in range(0, len(left[missing]), size):
                        some = left[missing][start : start + size]
                        yield replace(unit, strategies=strategies, problems=some)

    def groups(self) -> list[tuple[str | None, str, list[str]]]:
        """(reward, budget, strategies that choose among the same texts), from small budgets to large."""
        found: list[tuple[str | None, str, list[str]]] = []
        for reward, name, budget in sorted(self.cells(), key=lambda c: budget_size(c[2])):
            mine = (g[2] for g in found if g[:2] == (reward, budget))
            alike = lambda names, name=name: self._alike(names[0], name)
            if (names := next(filter(alike, mine), None)) is not None:
                names.append(name)
            else:
                found.append((reward, budget, [name]))
        return found

    def _alike(self, *names: str) -> bool:
        one, other = (self.strategies[name] for name in names)
        usual = type(one).run is type(other).run is Strategy.run
        return usual and one.writes == other.writes

    def __len__(self) -> int:
        return len(self.cells()) * len(self.seeds) * len(self.task)


def plan_of(
    task: Task,
    strategies: Any,
    rewards: Sequence[str],
    budgets: Any,
    seeds: Sequence[int],
    batch: int | None = None,
) -> Plan:
    """Arguments checked, and everything named.

    Raises:
        InvalidArgument: one is not allowed.
    """
    if not len(task):
        raise InvalidArgument("task", task, "at least one problem")
    if not seeds or len(set(seeds)) < len(seeds):
        raise InvalidArgument("seeds", seeds, "at least one, each once")
    if batch is not None and batch < 1:
        raise InvalidArgument("batch", batch, "None or an integer >= 1")
    limits = [as_budget(b) for b in (budgets if isinstance(budgets, Sequence) else [budgets])]
    named = {budget_name(b): b for b in limits}
    if not limits or len(named) < len(limits):
        raise InvalidArgument("budgets", budgets, "at least one, each once")
    found = strategies_of(strategies)
    for name, strategy in found.items():
        if strategy.needs_reward and not rewards:
            raise InvalidArgument("reward", None, f"a reward for strategy {name!r}")
    return Plan(task, found, rewards, named, list(seeds), batch)


def strategies_of(strategies: Any) -> dict[str, Strategy]:
    """Strategies by name: given as names, strategies, a mapping, or a list of the first two."""
    if isinstance(strategies, Mapping):
        return {str(name): as_strategy(s) for name, s in strategies.items()}
    if isinstance(strategies, str | Strategy):
        strategies = [strategies]
    found = [as_strategy(s) for s in strategies]
    named = {strategy_name(s): s for s in found}
    if not found or len(named) < len(found):
        raise InvalidArgument("strategies", strategies, "at least one, each once")
    return named


def strategy_name(strategy: Strategy) -> str:
    """A strategy's name with the options that are not its defaults: "particle-filter[ess_threshold=1.0]"."""
    changed = [
        f"{f.name}={getattr(strategy, f.name)}"
        for f in fields(strategy)
        if getattr(strategy, f.name) != f.default
    ]
    return strategy.name + (f"[{','.join(changed)}]" if changed else "")


def problem_keys(seed: int, problems: Sequence[Problem]) -> Any:
    """A JAX key per problem, from the seed and the problem's id alone.

    So a problem's result depends neither on the order of problems, nor on which are solved together or where.
    Strategies and budgets share keys: they are compared on the same random numbers.
    """
    root = jax.random.key(seed)
    words = [_words(problem.id) for problem in problems]
    keys = [jax.random.fold_in(jax.random.fold_in(root, a), b) for a, b in words]
    return jax.numpy.stack(keys)


def _words(name: str) -> tuple[int, int]:
    """Sixty-four bits of a name: a hundred thousand problems share none of them, but for one chance in a billion."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return int.from_bytes(digest[:4], "little"), int.from_bytes(digest[4:8], "little")
