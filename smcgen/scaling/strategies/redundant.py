"""Early stopping of redundant texts: of those that say the same one goes on, and votes for all."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar

import numpy as np

from smcgen.core.arguments import check_counts
from smcgen.errors import InvalidArgument
from smcgen.scaling.draws import folded
from smcgen.scaling.job import Job
from smcgen.scaling.similarity import NgramOverlap, Similarity, clusters, survivors
from smcgen.scaling.strategies.adaptive import Wrapped
from smcgen.scaling.waves import write_sizes, write_waves
from smcgen.text.model import TextModel
from smcgen.text.randomness import StepRandomness
from smcgen.text.state import TextState
from smcgen.text.texts import Finish

_OWN = 2**31  # the stream of the choice; a step's tokens have small numbers


@dataclass(frozen=True, kw_only=True)
class PruneRedundant(Wrapped):
    """Between steps, of running texts that are alike `kept` go on, the others are stopped; votes stay in the cluster.

    Which ones go on is drawn by their votes, whatever they say. So each text's vote is right on average: shares of
    answers are unbiased, as is Z-hat for `p psi`, for any similarity and a given n. What is lost is independence: where
    texts that were taken for alike would have ended differently, the shares vary more than those of n texts. Texts as
    such, and rules that count each text once ("majority"), do not keep their law: votes are weights here.

    What stopped texts leave of a budget of tokens is spent on further ones. Early stopping of traces that will agree:
    Tu et al. (2025), arXiv:2510.08483 (DeepPrune), with a trained judge of pairs, and without the votes.

    Attributes:
        similarity: a function of the texts' steps, see `smcgen.scaling.similarity`; default: overlap of n-grams.
        threshold: from there on two texts are alike, and so are those that others connect.
        kept: texts of a cluster that go on.
        start: steps before the first look.
        every: steps between looks.
    """

    similarity: Similarity = NgramOverlap()
    threshold: float = 0.8
    kept: int = 1
    start: int = 2
    every: int = 1

    name: ClassVar[str] = "prune-redundant"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_counts(kept=self.kept, start=self.start, every=self.every)
        if not callable(self.similarity):
            raise InvalidArgument("similarity", self.similarity, "a function of texts")

    def default_rule(self, answered: bool) -> str:
        rule = super().default_rule(answered)
        return "weighted" if rule == "majority" else rule

    def write(self, job: Job) -> None:
        inner = self.inner
        n = job.budget.texts(job.writing.max_tokens, inner.calls)
        model = partial(Stopping, rules=self)
        write_waves(
            job, inner.calls, n, partial(write_sizes, job, inner.potential(job), model=model)
        )


@dataclass(frozen=True)
class Voting(TextState):
    """Texts with the votes that stopped ones have left them."""

    votes: np.ndarray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True)
class Stopping(TextModel):
    """Texts of which redundant ones are stopped; a step's potential has the change of the votes as a factor."""

    rules: Any = None

    def init(self, key: Any, n: int) -> tuple[TextState, Any]:
        state, log_g = super().init(key, n)
        return Voting(**vars(state), votes=np.ones(len(state.texts))), log_g

    def step(self, key: Any, t: Any, state: Any) -> tuple[TextState, Any]:
        state, log_g = super().step(key, t, state)
        since = int(t) - self.rules.start
        if since < 0 or since % self.rules.every:
            return state, log_g
        before = state.votes
        votes = self._voted(key, state)
        if (votes == before).all():
            return state, log_g
        with np.errstate(divide="ignore"):
            gained = np.log(votes / np.where(before > 0, before, 1.0))
        stopped = np.flatnonzero((votes == 0) & (before > 0))
        flat = np.ravel(np.asarray(log_g)) + np.where(before > 0, gained, 0.0)
        finish = state.texts.finish.copy()
        finish[stopped] = Finish.DEAD
        for session in (state.engine, *state.twists):
            session.drop(stopped)
        state = replace(state, texts=replace(state.texts, finish=finish), votes=votes)
        return state, flat.reshape(np.shape(log_g))

    def _voted(self, key: Any, state: Any) -> np.ndarray:
        """Everyone's votes after a look at the running texts."""
        texts, votes, rules = state.texts, state.votes.copy(), self.rules
        uniforms = None
        for b in range(len(self.prompts)):
            rows = b * texts.n + np.flatnonzero(~texts.ended[b * texts.n : (b + 1) * texts.n])
            if len(rows) < 2:
                continue
            steps = [texts.step_texts(row) for row in rows.tolist()]
            of = clusters(rules.similarity, steps, rules.threshold)
            if len(np.unique(of)) == len(rows):
                continue
            if uniforms is None:
                uniforms = StepRandomness(folded(key, _OWN), texts.n).uniforms(0)
            for cluster in np.unique(of).tolist():
                members = rows[of == cluster]
                u = float(uniforms[members[0]])
                votes[members] = survivors(votes[members], rules.kept, u)
        return votes
