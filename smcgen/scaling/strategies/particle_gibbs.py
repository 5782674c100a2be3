"""Particle Gibbs on texts: the budget spent on several sweeps, each of which keeps a text of the one before."""

from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64, Int

from smcgen.core.arguments import check_counts
from smcgen.core.result import SMCResult
from smcgen.core.status import Status
from smcgen.errors import InvalidArgument
from smcgen.scaling.draws import uniforms
from smcgen.scaling.job import Job
from smcgen.scaling.strategies.particle_filter import ParticleFilter
from smcgen.text.state import as_wide


@dataclass(frozen=True, kw_only=True)
class ParticleGibbs(ParticleFilter):
    """`sweeps` filters of n / sweeps texts: the first free, each further one along a text drawn from the one before.

    Conditional SMC leaves `pi(x) ∝ p(x) psi(x)` invariant for two texts or more, so that the sweeps are a Markov chain
    with the target as its law in the long run, where n / sweeps texts alone are too few. All sweeps count the same; the
    first, which starts the chain, is a particle filter. Andrieu, Doucet and Holenstein (2010).

    No sweep is begun that might exceed the budget: each needs n tokens' worth of full texts. `seconds` are looked at
    before each sweep.

    Attributes:
        sweeps: how many; fewer if the budget has less than two texts for each.
        ancestor_sampling: give the rest of the kept text a new past at each resampling (PGAS; Lindsten, Jordan and
            Schön 2014). The model reads the rest behind every other text, and the reward scores that.
        discard: so many sweeps at the beginning do not count.
    """

    sweeps: int = 4
    ancestor_sampling: bool = False
    discard: int = 0

    name: ClassVar[str] = "particle-gibbs"
    by_evidence: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(sweeps=self.sweeps)
        check_counts(0, discard=self.discard)
        if not 0 <= self.discard < self.sweeps:
            raise InvalidArgument("discard", self.discard, f"an integer in [0, {self.sweeps})")
        if self.lookahead:
            raise InvalidArgument("lookahead", self.lookahead, "0 with particle Gibbs")

    def write(self, job: Job) -> None:
        calls = self.calls_of(job.writing.steps)
        whole = job.budget.texts(job.writing.max_tokens, calls)
        strengths = self.strengths(whole)
        chains = len(strengths)
        sweeps = max(1, min(self.sweeps, whole // (2 * chains)))
        n = whole // (sweeps * chains)
        potentials = [self.potential(job, strength) for strength in strengths]
        options: dict[str, Any] = {
            "resampling": self.resampling,
            "ess_threshold": self.ess_threshold,
        }
        results = [job.write(n, potential, **options) for potential in potentials]
        options["ancestor_sampling"] = self.ancestor_sampling
        problems = job.everyone
        for sweep in range(1, sweeps):
            going = self.going(job, chains * n, calls, chains)
            if not len(going):
                return
            paths = [
                drawn_path(result, job, problems, going, purpose(sweep, c, chains))
                for c, result in enumerate(results)
            ]
            paths = self.moved(job, going, sweep, strengths, paths)
            results = [
                job.write(n, potential, going, path=path, **options)
                for potential, path in zip(potentials, paths, strict=True)
            ]
            problems = going

    def strengths(self, whole: int) -> list[float]:
        """Of the chains that a budget of so many texts has; the one that counts comes first."""
        return [self.strength]

    def moved(
        self,
        job: Job,
        going: Int[np.ndarray, " p"],
        sweep: int,
        strengths: list[float],
        paths: list[Any],
    ) -> list[Any]:
        """The chains' paths before a sweep, if they have anything to do with each other."""
        return paths

    def calls_of(self, steps: int) -> int:
        """Calls of the reward for a text of so many steps, at most."""
        return steps * (1 + steps if self.ancestor_sampling else 1)

    def going(self, job: Job, texts: int, calls: int, runs: int = 1) -> Int[np.ndarray, " p"]:
        """Prompts whose last runs were fine, and which can afford a sweep of so many texts."""
        left = job.ledger.tokens_left(), job.ledger.calls_left()
        ok = lambda b: all(run.status is Status.OK for run in job.runs[b][-runs:])
        fine = np.array([ok(b) for b in job.everyone.tolist()])
        enough = (left[0] >= texts * job.writing.max_tokens) & (left[1] >= texts * calls)
        job.ledger.exhaust(np.flatnonzero(fine & ~enough))
        if job.ledger.late:
            job.ledger.exhaust(np.flatnonzero(fine))
        return np.flatnonzero(fine & ~job.ledger.halted)

    def counted(self, runs: list[Any]) -> list[Any]:
        return runs[self.discard :] or runs[-1:]


@dataclass(frozen=True, kw_only=True)
class PGAS(ParticleGibbs):
    """Particle Gibbs with ancestor sampling. Lindsten, Jordan and Schön (2014)."""

    ancestor_sampling: bool = True

    name: ClassVar[str] = "pgas"


def purpose(sweep: int, number: int, chains: int) -> int:
    """Of the keys with which a sweep draws something: a path for each chain, then what chains exchange."""
    return sweep * (2 * chains if chains > 1 else 1) + number


def drawn_path(
    result: Any, job: Job, before: np.ndarray, going: np.ndarray, sweep: int
) -> list[Any]:
    """A path of each prompt that goes on, drawn by weight with the prompt's own key; one record a step."""
    keys, places = job.keys_of(going, sweep), np.searchsorted(before, going)
    if isinstance(result, SMCResult):
        rows = np.zeros(len(before), np.int64)
        rows[places] = drawn(keys, np.asarray(result.log_weights, np.float64)[places])
        path = result.path(jnp.asarray(rows))
        return [jax.tree.map(lambda x: np.asarray(x)[places], record) for record in path]
    alone = [result[i] for i in places.tolist()]
    rows = drawn(keys, np.stack([np.asarray(run.log_weights, np.float64) for run in alone]))
    paths = [run.path(int(row)) for run, row in zip(alone, rows, strict=True)]
    steps = range(max(map(len, paths)))
    return [_joined([path[min(t, len(path) - 1)] for path in paths]) for t in steps]


def drawn(keys: Any, log_weights: Float64[np.ndarray, "p n"]) -> Int[np.ndarray, " p"]:
    """A particle of each problem by weight, from the problem's own key; by inversion, with 52 bits."""
    upto = np.cumsum(np.exp(log_weights - log_weights.max(1, keepdims=True)), 1)
    return (upto <= uniforms(keys)[:, None] * upto[:, -1:]).sum(1)


def _joined(records: list[Any]) -> Any:
    """Records of single prompts as one record with a row for each."""
    tokens = np.stack(as_wide([record.tokens for record in records]))
    rest = [np.stack(x) for x in zip(*(record[1:] for record in records), strict=True)]
    return type(records[0])(tokens, *rest)
