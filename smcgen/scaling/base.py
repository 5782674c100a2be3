"""Inference-time-scaling strategies: what all of them are.

    outcomes = BestOfN().run(engine, prompts, reward, budget=16)

A strategy is a frozen dataclass of its options. It writes populations of texts for its prompts (`Job.write`: the SMC
body on a `TextModel`), and a selection rule chooses among them. To add one, say in `write` what is run, and give the
class a line in `smcgen.scaling.registry`.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar

from smcgen.core.cost import Cost
from smcgen.core.status import Status
from smcgen.errors import InvalidArgument
from smcgen.scaling.budget import Budget
from smcgen.scaling.candidates import candidates, reweighted
from smcgen.scaling.job import Job
from smcgen.scaling.outcome import Outcome
from smcgen.scaling.selection import Selection, as_selection, posterior_of
from smcgen.scaling.writing import Writing
from smcgen.text.potentials.base import Potential
from smcgen.text.potentials.tilt import Scale, Tilt
from smcgen.text.result import SteerResult
from smcgen.text.rewards.base import Reward
from smcgen.text.steer import steered


@dataclass(frozen=True, kw_only=True)
class Strategy(ABC):
    """A way to spend a budget on a prompt.

    Attributes:
        selection: the rule that chooses, see `smcgen.scaling.selection`; None: the strategy's own.
    """

    selection: str | Selection | None = None

    name: ClassVar[str]
    needs_reward: ClassVar[bool] = False
    needs_answer: ClassVar[bool] = False
    rule: ClassVar[str] = "best"  # how it chooses if nothing is said
    pooled: ClassVar[bool] = False  # whether limits are those of all prompts together
    by_evidence: ClassVar[bool] = True  # how several runs are put together, see `candidates`

    def run(
        self,
        engine: Any,
        prompts: Any,
        reward: Any = None,
        budget: int | Budget = 16,
        *,
        key: Any = 0,
        writing: Writing = Writing(),
        progress: bool = False,
        callback: Callable[[Any], None] | None = None,
    ) -> Any:
        """Spend the budget on each prompt.

        Args:
            engine: an engine, or what `smcgen.steer` takes as `model`.
            prompts: a prompt, or a list of prompts, which are written together.
            reward: what `smcgen.steer` takes as `reward`.
            budget: rollouts per prompt, or a `Budget`: hard limits per prompt.
            key: a seed or JAX key, or one for each prompt. A prompt's outcome depends on its own key alone, not on the
                prompts beside it.
            writing: how texts are written, whichever strategy writes them.
            progress: show a progress bar.
            callback: called with a `Progress` after each step; it may raise to stop.

        Returns:
            An `Outcome`; a list of them for a list of prompts.

        Raises:
            InvalidArgument: an argument is not allowed, or a reward or an answer is missing.
            SMCInterrupted and whatever an engine, a reward or the callback raises: `error.result` has the outcomes so
                far (None for a prompt without any), if there are any.
        """
        shown: dict[str, Any] = {"progress": progress, "callback": callback}
        return together([self], engine, prompts, reward, budget, key=key, writing=writing, **shown)[
            0
        ]

    async def arun(self, *args: Any, **options: Any) -> Any:
        """`run` in a thread of its own, so that an event loop goes on."""
        return await asyncio.to_thread(partial(self.run, *args, **options))

    def default_rule(self, answered: bool) -> str:
        """The rule that chooses if none is asked for, where texts have answers or not."""
        return self.rule

    @abstractmethod
    def write(self, job: Job) -> None:
        """Write the texts of all prompts."""

    def counted(self, runs: list[SteerResult]) -> list[SteerResult]:
        """The runs whose texts are candidates: all of them, unless the strategy says otherwise."""
        return runs

    @property
    def writes(self) -> tuple[Any, ...]:
        """What decides which texts it writes: strategies for which that is equal write the same, see `together`."""
        return type(self), self.options

    @property
    def options(self) -> dict[str, Any]:
        """All options but the selection."""
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name != "selection"}

    def chooses(self, reward: Any, writing: Writing) -> Selection:
        """The rule that chooses.

        Raises:
            InvalidArgument: a reward or an answer is missing.
        """
        if self.needs_reward and reward is None:
            raise InvalidArgument("reward", None, f"a reward for strategy {self.name!r}")
        rule = as_selection(self.selection or self.default_rule(writing.answer is not None))
        if (self.needs_answer or rule.needs_answer) and writing.answer is None:
            what = f"strategy {self.name!r} with selection {rule.name!r}"
            raise InvalidArgument("writing.answer", None, f"an extractor for {what}")
        return rule

    def outcomes(self, job: Job, rule: Selection) -> Any:
        """Of all prompts, as `run` returns them."""
        keys = job.keys_of(job.everyone, 0)
        outcomes = [self.outcome(job, b, rule, keys[b]) for b in range(len(job.prompts))]
        return outcomes[0] if job.single else outcomes

    def outcome(self, job: Job, problem: int, rule: Selection, key: Any) -> Outcome | None:
        """What was written for a prompt, and what is chosen; None if nothing was written."""
        runs = job.runs[problem]
        if not runs:
            return None
        every, runs = runs, self.counted(runs)
        of = candidates(runs, job.extract, job.writing.same, self.by_evidence)
        voted = reweighted(of, rule.votes(of))
        cost = sum((run.cost for run in every if run.cost), Cost())
        return Outcome(
            self.name,
            job.prompts[problem],
            of.texts,
            voted.weights,
            of.scores,
            of.finish,
            rule.ranking(voted, key),
            None if of.answers is None else posterior_of(voted),
            cost,
            _status(runs, bool(job.ledger.exhausted[problem]), bool(of.weights.any())),
            runs,
            of,
        )


def together(
    strategies: Sequence[Strategy],
    engine: Any,
    prompts: Any,
    reward: Any,
    budget: int | Budget,
    *,
    key: Any,
    writing: Writing,
    **shown: Any,
) -> list[Any]:
    """What `run` of each strategy would return, for strategies of equal `writes`: texts are written once.

    Each outcome's cost is that of writing them.
    """
    rules = [strategy.chooses(reward, writing) for strategy in strategies]
    job = Job.of(engine, prompts, reward, budget, key, writing, **shown)
    try:
        strategies[0].write(job)
    except BaseException as error:  # nothing is lost
        if any(job.runs):
            so_far = strategies[0].outcomes(job, rules[0])
            error.result = so_far  # pyright: ignore[reportAttributeAccessIssue]
        raise
    return [s.outcomes(job, rule) for s, rule in zip(strategies, rules, strict=True)]


@dataclass(frozen=True, kw_only=True)
class Rewarded(Strategy):
    """A strategy that steers or ranks by a reward.

    Attributes:
        strength, scale: how the reward becomes a potential, see `smcgen.steer`.
    """

    strength: float = 1.0
    scale: Scale | None = None

    needs_reward: ClassVar[bool] = True

    def at_the_end(self, reward: Any) -> Potential | None:
        """The reward as a potential that is asked about finished texts only, if it is a single one."""
        alone = isinstance(reward, Reward | Tilt)
        return steered(reward, self.strength, "none" if alone else None, self.scale)


def _status(runs: list[SteerResult], exhausted: bool, possible: bool) -> Status:
    """How a search ended that may have had several runs: it fails only if all of them did, or no text is possible."""
    found = [run.status for run in runs]
    fine = [s for s in found if s in (Status.OK, Status.INTERRUPTED)]
    if not fine:
        return found[0]
    if Status.INTERRUPTED in fine:
        return Status.INTERRUPTED
    if not possible:
        return Status.ALL_WEIGHTS_ZERO
    return Status.BUDGET_EXHAUSTED if exhausted else Status.OK
