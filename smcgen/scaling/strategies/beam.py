"""Searches that keep the best texts at each step by a process reward."""

from dataclasses import dataclass
from typing import ClassVar

from smcgen.core.arguments import check_counts
from smcgen.scaling.base import Rewarded
from smcgen.scaling.job import Job
from smcgen.scaling.lookahead import looking_ahead
from smcgen.scaling.top import Distinct, Top
from smcgen.text.steer import steered


@dataclass(frozen=True, kw_only=True)
class BeamSearch(Rewarded):
    """Of n texts the `n / width` best by their latest score are kept, and each is continued `width` times.

    It targets nothing: it climbs the score, and a text whose early steps score low is lost for good. Equal finished
    texts count once. Snell et al. (2024), section 5.1.

    Attributes:
        width: continuations of each kept text; with fewer rollouts than that, one text is kept.
        lookahead: steps that each text is continued greedily before it is scored (0: it is scored as it is). They cost
            tokens, and are thrown away.
    """

    width: int = 4
    lookahead: int = 0

    name: ClassVar[str] = "beam-search"

    def __post_init__(self) -> None:
        check_counts(width=self.width)
        check_counts(0, lookahead=self.lookahead)

    def kept(self, n: int) -> tuple[int, Top]:
        """How many texts are written, and which are kept."""
        return n, Top(max(1, n // self.width))

    def write(self, job: Job) -> None:
        n, rule = self.kept(job.budget.texts(job.writing.max_tokens, job.writing.steps))
        reward = looking_ahead(job, self.lookahead) if self.lookahead else job.reward
        potential = steered(reward, self.strength, None, self.scale)
        job.write(n, potential, model=Distinct, resampling=rule, ess_threshold=1.0)


@dataclass(frozen=True, kw_only=True)
class DVTS(BeamSearch):
    """Diverse verifier tree search: `n / width` independent greedy searches, each of `width` continuations a step.

    Subtrees do not compete before the end, so that they stay apart. Beeching et al. (2024).
    """

    name: ClassVar[str] = "dvts"

    def kept(self, n: int) -> tuple[int, Top]:
        groups = max(1, n // self.width)
        return (groups * self.width if n >= self.width else n), Top(1, groups)


@dataclass(frozen=True, kw_only=True)
class LookaheadSearch(BeamSearch):
    """Beam search in which each text is scored where a greedy continuation of it gets. Snell et al. (2024), 5.1."""

    lookahead: int = 1

    name: ClassVar[str] = "lookahead"
