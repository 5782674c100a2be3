"""A strategy without a model: what it answers is a function of the prompt's key, and it can be made to fail."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import jax
import numpy as np

from smcgen.core.cost import Cost
from smcgen.core.status import Status
from smcgen.scaling.base import Strategy
from smcgen.scaling.budget import as_budget
from smcgen.scaling.candidates import Candidates
from smcgen.scaling.evaluation.tasks import Problem, Task
from smcgen.scaling.outcome import Outcome
from smcgen.scaling.selection import Best, posterior_of
from smcgen.scaling.writing import Writing
from smcgen.text.prompts import Prompt

WRITING = Writing(answer=r"(\d+)")
hook: Callable[[list[Any]], object] | None = None  # not an option: records do not depend on it


def task(problems: int = 6) -> Task:
    return Task("stub", [Problem(f"p{i}", f"prompt {i}", str(i % 3)) for i in range(problems)])


@dataclass(frozen=True, kw_only=True)
class Stub(Strategy):
    """Texts "0", "1" or "2" by the prompt's key; `hook` is told the prompts of each call, and may raise."""

    needy: bool = False

    name: ClassVar[str] = "stub"

    @property
    def needs_reward(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.needy

    def write(self, job: Any) -> None:
        raise NotImplementedError

    def run(self, engine, prompts, reward=None, budget=16, *, key=0, writing=Writing(), **_):
        if hook is not None:
            hook(list(prompts))
        n = as_budget(budget).rollouts or 1
        return [outcome(p, n, k) for p, k in zip(prompts, key, strict=True)]


def outcome(prompt: str, n: int, key: Any, status: Status = Status.OK) -> Outcome:
    draws = np.random.default_rng(np.asarray(jax.random.key_data(key))).integers(0, 3, n)
    zeros = np.zeros(n)
    of = Candidates(
        [str(d) for d in draws],
        [str(d) for d in draws],
        np.full(n, 1 / n),
        zeros,
        np.full(n, np.nan),
        zeros,
        np.ones(n, np.int64),
        np.ones(n, np.int64),
        np.arange(n),
    )
    return Outcome(
        "stub",
        Prompt((1,), prompt),
        of.texts,
        of.weights,
        of.scores,
        of.finish,
        Best().ranking(of, None),
        posterior_of(of),
        Cost(tokens_generated=n, reward_tokens=2 * n, seconds=0.5),
        status,
        [],
        of,
    )


@dataclass(frozen=True, kw_only=True)
class Mortal(Stub):
    """A stub that writes down what it is asked in a file, and whose process is killed at the first "prompt 3"."""

    log: str = ""

    name: ClassVar[str] = "mortal"

    def run(self, engine, prompts, reward=None, budget=16, **options):
        seen = Path(self.log).read_text() if Path(self.log).exists() else ""
        with open(self.log, "a") as file:
            file.write("".join(f"{prompt}\n" for prompt in prompts))
        if "prompt 3" in prompts and "prompt 3" not in seen:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().run(engine, prompts, reward, budget, **options)
