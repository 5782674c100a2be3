"""What `steer` returns: weighted texts, and how they came about."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Float64

from smcgen.core.cost import Cost
from smcgen.core.problem import OneProblem, problem_result
from smcgen.core.result import SMCResult
from smcgen.core.status import Status
from smcgen.text.answers import AnswerPosterior, Extract, as_extractor
from smcgen.text.prompts import Prompt
from smcgen.text.state import TextRecord
from smcgen.text.texts import Texts

_FAILED = (Status.ALL_WEIGHTS_ZERO, Status.NON_FINITE_POTENTIAL)


@dataclass(frozen=True, repr=False)
class SteerResult(OneProblem):
    """Texts of one prompt, weighted so that they estimate `pi(x) ∝ p(x) psi(x)`.

    Attributes:
        prompt: the prompt.
        texts: completions, one per particle.
        weights: normalised weights, shape (n,); all zero if the run failed.
        scores: final score of each text by the first reward (NaN without one), shape (n,).
        finish: why each text ended (`Finish` codes), shape (n,).
        log_evidence: log of the estimate of `E_p[psi(x)]`; `log_evidence_stderr` is its standard error.
        cost: counted work; of the whole call if several prompts were steered together.
        smc: the run (ESS, ancestors, ...); history: what each particle wrote at each step.
        population: the texts as token ids with step boundaries.
    """

    prompt: Prompt
    texts: list[str]
    weights: Float64[np.ndarray, " n"]
    scores: Float64[np.ndarray, " n"]
    finish: np.ndarray
    cost: Cost | None
    smc: SMCResult
    history: Sequence[TextRecord]
    population: Texts
    extract: Extract | None = None

    @property
    def best(self) -> str:
        """The finished text with the highest terminal potential; among equals, the highest weight."""
        return self.texts[self.best_index]

    @property
    def best_index(self) -> int:
        """Index of `best`. Only texts of positive weight that ended by themselves compete, if any did."""
        log_psi = np.asarray(self.history[-1].log_psi, np.float64)
        candidates = (self.weights > 0) & self.population.whole
        if not candidates.any():
            candidates = self.weights > 0 if (self.weights > 0).any() else np.ones_like(candidates)
        order = np.lexsort([self.weights, np.where(candidates, log_psi, -np.inf), candidates])
        return int(order[-1])

    def sample(self, key: Any = 0, num: int | None = None) -> Any:
        """A text drawn by weight (a draw from pi as n grows), or a list of `num`."""
        index = np.asarray(self.smc.sample(key, num or 1))
        drawn = [self.texts[i] for i in index]
        return drawn[0] if num is None else drawn

    def answers(
        self, extract: str | Extract | None = None, weighted: bool = True
    ) -> AnswerPosterior:
        """Posterior over what the texts answer.

        Args:
            extract: "number", "boxed", "line", a regex with one group, or a function of a text;
                default: what `steer(answer=...)` was given.
            weighted: by particle weight, or every text once (a majority vote).
        """
        of = (
            as_extractor(extract) if extract is not None else self.extract or as_extractor("number")
        )
        if self.status in _FAILED:
            return AnswerPosterior([], [])  # no text is possible, so no answer is
        weights = self.weights if weighted else np.ones(len(self.texts))
        return AnswerPosterior(
            [of(text) for text in self.texts], weights, np.asarray(self.smc.founders)
        )

    def expectation(self, fn: Callable[[str], float]) -> float:
        """Self-normalised estimate of `E_pi[fn(x)]` for a function of a text."""
        values = np.array([fn(text) for text in self.texts], np.float64)
        return float(np.sum(np.where(self.weights > 0, self.weights * values, 0.0)))

    @property
    def answer(self) -> str | None:
        """The most likely answer."""
        return self.answers().best

    def trace(self, limit: int = 6) -> str:
        """The run as text: what was written at each step, what was killed and what multiplied."""
        from smcgen.text.trace import trace

        return trace(self, limit)

    def plot(self, **options: Any) -> Any:
        """Figure of ESS, evidence and genealogy (extra `plot`)."""
        return self.smc.plot(**options)

    def to_arviz(self, key: Any = 0) -> Any:
        """ArviZ `InferenceData` of scores and lengths (extra `plot`)."""
        numbers = {"score": self.scores, "length": self.population.lengths.astype(np.float64)}
        return self.smc.replace(particles=numbers).to_arviz(key=key)

    def __repr__(self) -> str:
        best = self.best if len(self.best) <= 70 else self.best[:67] + "..."
        return (
            f"SteerResult(best={best!r}, answer={self.answer!r}, n_particles={len(self.texts)}, "
            f"log_evidence={self.log_evidence:.3f}±{self.log_evidence_stderr:.3f}, ess={self.ess:.1f}, "
            f"status={self.status.name}, cost={self.cost})"
        )


def by_problem(result: SMCResult, single: bool, extract: Extract | None) -> list[SteerResult]:
    """A run of a `TextModel` as one result per prompt."""
    texts: Texts = result.particles
    score = np.asarray(result.history[-1].score, np.float64)
    results = []
    for b, prompt in enumerate(texts.prompts):
        rows = slice(b * texts.n, (b + 1) * texts.n)
        own = problem_result(result, None if single else b)
        population = texts.of_rows(rows, [prompt], texts.n)
        history = [jax.tree.map(lambda x, rows=rows: x[rows], record) for record in result.history]
        log_weights = np.asarray(own.log_weights, np.float64)
        weights = np.exp(log_weights - log_weights.max())
        results.append(
            SteerResult(
                prompt,
                [population.text(i) for i in range(texts.n)],
                0 * weights if int(own.status) in _FAILED else weights / weights.sum(),
                score[rows],
                population.finish,
                result.cost,
                own.replace(particles=population, history=None),
                history,
                population,
                extract,
            )
        )
    return results
