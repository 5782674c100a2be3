"""The steps of a diffusion model that may begin with a resampling, checked."""

from collections.abc import Iterable

import numpy as np

from smcgen.core.resampling.when import AtSteps, Every, Scheduled
from smcgen.errors import InvalidArgument


def chosen_steps(
    steps: Scheduled | Iterable[int] | None, deterministic: tuple[bool, ...]
) -> tuple[int, ...]:
    """Steps 1..T in order. None: all random ones but the first, at which there is nothing to see yet.

    An `Every` is a rule, and passes over deterministic steps (the last one, mostly); steps that are named are not.

    Raises:
        InvalidArgument: a step that the process does not have, or that is deterministic.
    """
    every = range(1, len(deterministic) + 1)
    if steps is None:
        return tuple(t for t in every if t > 1 and not deterministic[t - 1])
    if isinstance(steps, AtSteps):
        steps = steps.steps
    elif isinstance(steps, Scheduled):
        rule = [t for t in every if steps.allows(t)]
        random = [t for t in rule if not deterministic[t - 1]]
        steps = random if random and isinstance(steps, Every) else rule
    wanted = sorted(set(steps))
    for t in wanted:
        if isinstance(t, bool) or not isinstance(t, int | np.integer) or t not in every:
            raise InvalidArgument(
                "steps", tuple(wanted), f"integers from 1 to {len(deterministic)}"
            )
        if deterministic[t - 1]:
            random = [t for t in every if not deterministic[t - 1]]
            allowed = (
                f"random steps: step {t} is deterministic, so that copies of a particle would stay copies. "
                f"The random steps of this kernel are {ranges(random)}"
            )
            raise InvalidArgument("steps", tuple(wanted), allowed)
    return tuple(int(t) for t in wanted)


def ranges(times: list[int]) -> str:
    """`1-17, 20` for 1..17 and 20."""
    runs: list[list[int]] = []
    for t in times:
        if runs and runs[-1][-1] == t - 1:
            runs[-1].append(t)
        else:
            runs.append([t])
    shown = (f"{r[0]}-{r[-1]}" if len(r) > 1 else str(r[0]) for r in runs)
    return ", ".join(shown) or "none"
