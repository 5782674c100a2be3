"""The texts of one prompt that a selection rule chooses among."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float64, Int

from smcgen.text.answers import Extract
from smcgen.text.equivalence import Equivalent, exact, merged
from smcgen.text.result import SteerResult
from smcgen.text.texts import Finish


@dataclass(frozen=True)
class Candidates:
    """Texts with all that is known of them; one row each.

    Attributes:
        texts: completions.
        answers: what they answer, equivalent ones in the form that came first, None where there is no answer;
            None without an extractor.
        weights: normalised weights, all zero if every run failed.
        log_psi: terminal log-potential, nats.
        scores: raw score of the first reward, NaN without one.
        log_probs: log-probability of the text under the base law, nats.
        lengths: tokens.
        finish: `Finish` codes.
        families: texts of the same number are not independent (they have the same ancestor in a run).
    """

    texts: list[str]
    answers: list[str | None] | None
    weights: Float64[np.ndarray, " n"]
    log_psi: Float64[np.ndarray, " n"]
    scores: Float64[np.ndarray, " n"]
    log_probs: Float64[np.ndarray, " n"]
    lengths: Int[np.ndarray, " n"]
    finish: Int[np.ndarray, " n"]
    families: Int[np.ndarray, " n"]

    @property
    def ended(self) -> Bool[np.ndarray, " n"]:
        """Texts that ended by themselves."""
        return np.isin(self.finish, (Finish.EOS, Finish.STOP))

    def __len__(self) -> int:
        return len(self.texts)


def candidates(
    runs: Sequence[SteerResult],
    extract: Extract | None,
    equivalent: Equivalent = exact,
    by_evidence: bool = True,
) -> Candidates:
    """The texts of some runs on one prompt as one weighted sample: run r counts `n_r * Z-hat_r`.

    For independent runs with one target that is the unbiased way to put them together; texts that were drawn
    independently get weights proportional to psi, and without a reward equal ones. Not `by_evidence`: all runs count
    the same, as the sweeps of a Markov chain do.
    """
    log_z = np.array([run.log_evidence for run in runs])
    log_n = np.log([len(run.texts) for run in runs])
    mass = log_z + log_n if by_evidence else np.zeros(len(runs))
    mass = np.where(np.isfinite(log_z), mass, -np.inf)
    top = mass.max() if np.isfinite(mass.max()) else 0.0
    weights = np.concatenate(
        [run.weights * np.exp(m - top) for run, m in zip(runs, mass, strict=True)]
    )
    finish = np.concatenate([run.finish for run in runs]).astype(np.int64)
    joined = lambda parts: np.concatenate([np.asarray(p, np.float64) for p in parts])
    log_psi = joined(run.history[-1].log_psi for run in runs)
    weights = np.where(log_psi > -np.inf, weights, 0.0)  # a search weighs none of its texts
    if (finish != Finish.RUNNING).any():  # what a search left unfinished says nothing
        weights = np.where(finish == Finish.RUNNING, 0.0, weights)
    total = weights.sum()
    texts = [text for run in runs for text in run.texts]
    offsets = np.cumsum([0, *(len(run.texts) for run in runs[:-1])])
    families = [o + np.asarray(r.smc.founders) for o, r in zip(offsets, runs, strict=True)]
    return Candidates(
        texts,
        None if extract is None else merged([extract(text) for text in texts], equivalent),
        weights / total if total > 0 else weights,
        log_psi,
        joined(run.scores for run in runs),
        joined(run.history[-1].log_base for run in runs),
        np.concatenate([run.population.lengths for run in runs]).astype(np.int64),
        finish,
        np.concatenate(families).astype(np.int64),
    )


def reweighted(of: Candidates, weights: Float64[np.ndarray, " n"]) -> Candidates:
    """The same texts with other weights."""
    total = weights.sum()
    return replace(of, weights=weights / total if total > 0 else weights)
