"""Solving problems with N samples each, by every method at once.

Two runs per N give all methods: one without resampling (independent samples with a score each:
majority, best-of-N, weighted best-of-N) and one particle filter.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Bool

from smcgen import scaling
from smcgen.core.cost import Cost
from smcgen.scaling.evaluation.tasks import Problem
from smcgen.text.result import SteerResult

ANSWER = r"A:(\d+)\s*$"
_ROWS = 2048  # texts in one batch: beyond it, a cache costs memory and brings no speed


@dataclass(frozen=True)
class Outcome:
    """One method at one N: which problems it solved, and at what cost."""

    method: str
    n: int
    solved: Bool[np.ndarray, " problems"]
    cost: Cost


def solve(
    problems: Sequence[Problem],
    engine: Any,
    reward: Any,
    ns: Sequence[int],
    seed: int = 0,
    filter_ns: Sequence[int] | None = None,
) -> Iterator[tuple[list[Outcome], list[SteerResult]]]:
    """Outcomes of one group of methods at a time, with the runs behind them; greedy first.

    `filter_ns` are the N of the particle filter, if not all of `ns`.
    """
    # a problem's key is its own: results do not depend on how problems are batched
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), np.arange(len(problems)))

    def run(strategy: scaling.Strategy, n: int, **changes: Any) -> tuple[list[Any], Cost]:
        found, size = [], max(1, _ROWS // n)
        writing = scaling.Writing(max_steps=16, answer=ANSWER, **changes)
        for start in range(0, len(problems), size):
            batch = slice(start, start + size)
            prompts = [p.prompt for p in problems[batch]]
            found += strategy.run(engine, prompts, reward, n, key=keys[batch], writing=writing)
        return found, sum((o.cost for o in found), Cost())

    def outcome(method: str, n: int, answers: list[str | None], cost: Cost) -> Outcome:
        right = [a == p.answer for a, p in zip(answers, problems, strict=True)]
        return Outcome(method, n, np.array(right), cost)

    def group(found: list[Any], n: int, cost: Cost, rules: dict[str, str]) -> Any:
        chosen = {m: [o.by(rule).answer for o in found] for m, rule in rules.items()}
        return [outcome(m, n, a, cost) for m, a in chosen.items()], [o.runs[0] for o in found]

    greedy, cost = run(scaling.Sample(), 1, temperature=0.0)
    yield group(greedy, 1, cost, {"greedy": "first"})
    for n in ns:
        free, cost = run(scaling.BestOfN(), n)
        rules = {"majority": "majority", "best-of-N": "best", "weighted best-of-N": "weighted"}
        yield group(free, n, cost, rules)
        if filter_ns is not None and n not in filter_ns:
            continue
        # resampling at every step, as Puri et al. do: each line is tried by all n particles
        filtered, cost = run(scaling.ParticleFilter(ess_threshold=1.0), n)
        yield group(filtered, n, cost, {"particle filter": "weighted"})
