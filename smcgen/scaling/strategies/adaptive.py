"""As many texts as a problem needs: strategies around one that draws independent texts."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np

from smcgen.core.arguments import check_counts
from smcgen.errors import InvalidArgument
from smcgen.scaling.allocation import Spread, as_spread, neyman
from smcgen.scaling.base import Strategy
from smcgen.scaling.candidates import Candidates, candidates, reweighted
from smcgen.scaling.draws import uniforms
from smcgen.scaling.job import Job
from smcgen.scaling.leading import leads
from smcgen.scaling.selection import as_selection, posterior_of
from smcgen.scaling.strategies.independent import Independent, Majority
from smcgen.scaling.waves import affordable, write_sizes, write_waves


@dataclass(frozen=True, kw_only=True)
class Wrapped(Strategy):
    """A strategy that says how many texts another one, of independent texts, draws for each prompt.

    Attributes:
        strategy: "majority", "best-of-n", ...: any whose texts are independent.
    """

    strategy: str | Strategy = Majority()

    def __post_init__(self) -> None:
        _ = self.inner

    @property
    def inner(self) -> Independent:
        """The strategy that is wrapped."""
        from smcgen.scaling.registry import as_strategy

        inner = as_strategy(self.strategy)
        if not isinstance(inner, Independent):
            raise InvalidArgument("strategy", inner.name, "a strategy of independent texts")
        return inner

    @property
    def needs_reward(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the strategy that is wrapped."""
        return self.inner.needs_reward

    def default_rule(self, answered: bool) -> str:
        inner = self.inner
        return inner.default_rule(answered) if inner.selection is None else _name(inner.selection)

    def so_far(self, job: Job, problem: int) -> Candidates:
        """A prompt's texts, with the votes that the rule gives them."""
        of = candidates(job.runs[problem], job.extract, job.writing.same, self.by_evidence)
        return reweighted(of, as_selection(self.selection or self.default_rule(True)).votes(of))


def _name(selection: Any) -> Any:
    return selection if isinstance(selection, str) else selection.name


@dataclass(frozen=True, kw_only=True)
class AdaptiveConsistency(Wrapped):
    """Texts in rounds of `size`, until the leading answer is truly the first with probability `level`.

    The probability is that of a Dirichlet posterior given the votes (`smcgen.scaling.leading`); weighted votes count as
    their effective number. A problem whose texts agree stops early; one that is not settled uses its whole budget. The
    answer's frequency among the texts is then no longer an unbiased estimate: when the texts stop depends on it.

    Attributes:
        size: texts of a round.
        level: in (0, 1).
        prior: of each answer and of one not yet seen, in votes.

    Aggarwal et al. (2023), arXiv:2305.11860.
    """

    size: int = 4
    level: float = 0.95
    prior: float = 1.0

    name: ClassVar[str] = "adaptive-consistency"
    needs_answer: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(size=self.size)
        if not 0 < self.level < 1:
            raise InvalidArgument("level", self.level, "a number in (0, 1)")
        if not self.prior > 0:
            raise InvalidArgument("prior", self.prior, "a number > 0")

    def write(self, job: Job) -> None:
        inner, most = self.inner, job.budget.rollouts
        sizes = np.full(
            len(job.prompts), min(self.size, job.budget.texts(job.writing.max_tokens, inner.calls))
        )
        potential = inner.potential(job)
        while sizes.any():
            spent = job.ledger.tokens.copy()
            write_sizes(job, potential, sizes)
            fine = (job.ledger.tokens > spent) & ~job.ledger.halted
            going = np.array(
                [ok and not self.settled(self.so_far(job, b)) for b, ok in enumerate(fine)], bool
            )
            if job.ledger.late:
                job.ledger.exhaust(np.flatnonzero(going))
            left = affordable(job, inner.calls)
            if most is not None:
                left = most - job.written
            sizes = np.where(going & ~job.ledger.halted, np.minimum(self.size, left), 0)

    def settled(self, of: Candidates) -> bool:
        """Whether the leading answer's lead is safe."""
        if not of.weights.any():
            return False
        number = 1 / (of.weights**2).sum()
        return leads(number * np.array([*posterior_of(of).values()]), self.prior) >= self.level


@dataclass(frozen=True, kw_only=True)
class AdaptiveAllocation(Wrapped):
    """A pilot of some texts on each prompt; the rest of all prompts' budgets goes where the texts vary.

    With s_b the spread of prompt b's pilot, prompts get the n_b texts that minimise `sum of s_b^2 / n_b` (Neyman
    allocation in whole numbers, see `smcgen.scaling.allocation`). The budgets of all prompts are one pool: their sum is
    never exceeded, a prompt's own may be, and a prompt's outcome depends on which prompts are beside it, though not on
    their order.

    Attributes:
        pilot: texts of each prompt to begin with.
        by: what varies: "answers" (the sum of s^2 / n is then the squared error of all answers' probabilities),
            "entropy" of the answers, "rewards", or a function of `Candidates`.

    On the principle: Snell et al. (2024), section 3.2, where difficulty takes the place of the spread.
    """

    pilot: int = 4
    by: str | Spread = "answers"

    name: ClassVar[str] = "adaptive-allocation"
    pooled: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(pilot=self.pilot)
        as_spread(self.by)

    def write(self, job: Job) -> None:
        inner, problems = self.inner, len(job.prompts)
        if job.extract is None and self.by in ("answers", "entropy"):
            raise InvalidArgument("writing.answer", None, f"an extractor with by={self.by!r}")
        potential = inner.potential(job)
        n = job.budget.texts(job.writing.max_tokens, inner.calls)
        pilot = np.full(problems, min(self.pilot, n))
        write_sizes(job, potential, pilot)
        spreads = np.array([as_spread(self.by)(self.so_far(job, b)) for b in range(problems)])
        spreads = np.where(job.ledger.halted, 0.0, spreads)
        more = problems * n - int(pilot.sum())
        if job.budget.rollouts is None:
            more = int(affordable(job, inner.calls, pooled=True)[0])
        ties = uniforms(job.keys_of(job.everyone, 1))
        counts = neyman(spreads, pilot, more, ties) - pilot
        job.ledger.pool(counts)
        for bit in range(int(counts.max()).bit_length()):  # few populations, each of many prompts
            write_sizes(job, potential, counts & 1 << bit)
        write_waves(job, inner.calls, 0, partial(write_sizes, job, potential))
