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

from smcgen.core.cost import Cost
from smcgen.core.status import Status
from smcgen.scaling.evaluation.tasks import Problem
from smcgen.text.result import SteerResult
from smcgen.text.steer import steer

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

    def run(n: int, **options: Any) -> tuple[list[SteerResult], Cost]:
        results, cost, size = [], Cost(), max(1, _ROWS // n)
        for start in range(0, len(problems), size):
            batch = slice(start, start + size)
            new = steer(
                [p.prompt for p in problems[batch]],
                model=engine,
                key=keys[batch],
                n_particles=n,
                answer=ANSWER,
                max_steps=16,
                on_error="return",
                **options,
            )
            if any(r.status is Status.INTERRUPTED for r in new):
                raise KeyboardInterrupt  # half a run is no measurement
            results, cost = results + new, cost + new[0].cost
        return results, cost

    def outcome(method: str, n: int, answers: list[str | None], cost: Cost) -> Outcome:
        right = [a == p.answer for a, p in zip(answers, problems, strict=True)]
        return Outcome(method, n, np.array(right), cost)

    greedy, cost = run(1, temperature=0.0)
    yield [outcome("greedy", 1, [r.answer for r in greedy], cost)], greedy
    for n in ns:
        free, cost = run(n, reward=reward, twist="none", ess_threshold=0.0)
        votes = [r.answers(weighted=False).best for r in free]
        yield (
            [
                outcome("majority", n, votes, cost),
                outcome("best-of-N", n, [best_answer(r) for r in free], cost),
                outcome("weighted best-of-N", n, [r.answer for r in free], cost),
            ],
            free,
        )
        if filter_ns is not None and n not in filter_ns:
            continue
        # resampling at every step, as Puri et al. do: each line is tried by all n particles
        filtered, cost = run(n, reward=reward, ess_threshold=1.0)
        yield [outcome("particle filter", n, [r.answer for r in filtered], cost)], filtered


def best_answer(result: SteerResult) -> str | None:
    """What the text with the highest score answers."""
    extract = result.extract
    return extract(result.best) if extract else None
