"""Which text is the answer: rules on the weighted texts that a strategy wrote.

A rule gives each text a vote in the answers' posterior, and puts the texts in order.

| rule | votes | chooses |
|---|---|---|
| best | weights | the text of the highest score |
| first | weights | the text that was written first: of independent texts a draw from the model |
| heaviest | weights | the text of the highest weight |
| sample | weights | a text drawn by weight: as the particles grow, a draw from the target |
| weighted | weights | the answer with the most weight, its best text |
| majority | one each | the most frequent answer, its best text |
| best-of-majority | one each | of answers with a share of at least `share`, the one with the best text |
| shortest | one each of those that ended | the shortest text that ended by itself |
| rpc | p(x) of each distinct text that is not pruned | the answer with the most probability |
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Float64, Int

from smcgen.errors import InvalidArgument, UnknownName
from smcgen.scaling.candidates import Candidates, reweighted
from smcgen.text.answers import AnswerPosterior


@runtime_checkable
class Selection(Protocol):
    """A rule; `needs_answer`: it means nothing for texts without answers."""

    name: ClassVar[str]
    needs_answer: ClassVar[bool]

    def votes(self, of: Candidates) -> Float64[np.ndarray, " n"]:
        """Each text's vote, of sum 1 (or 0 if no text is possible)."""
        ...

    def ranking(self, of: Candidates, key: Any) -> Int[np.ndarray, " n"]:
        """Rows from the best on. `of` has the votes as its weights."""
        ...


def by_score(of: Candidates) -> Int[np.ndarray, " n"]:
    """Rows from the best on: possible ones first, then those that ended by themselves, by potential, by weight."""
    return np.lexsort([-of.weights, -of.log_psi, ~of.ended, ~(of.weights > 0)])


def by_answer(of: Candidates) -> Int[np.ndarray, " n"]:
    """Rows by the weight of their answers, then as `by_score`; those without an answer last."""
    posterior = posterior_of(of)
    assert of.answers is not None
    worth = np.array([-1.0 if a is None else posterior.get(a, -1.0) for a in of.answers])
    order = by_score(of)
    return order[np.argsort(-worth[order], kind="stable")]


def posterior_of(of: Candidates) -> AnswerPosterior:
    """The answers' posterior by the weights of the texts."""
    assert of.answers is not None
    if not of.weights.sum() > 0:
        return AnswerPosterior([], [])  # no text is possible, so no answer is
    return AnswerPosterior(of.answers, of.weights, of.families)


class ByWeight:
    """Rules whose votes are the weights, whatever the answers."""

    needs_answer: ClassVar[bool] = False

    def votes(self, of: Candidates) -> Float64[np.ndarray, " n"]:
        """A vote for each text."""
        return of.weights


@dataclass(frozen=True)
class Best(ByWeight):
    """The text of the highest terminal potential."""

    name: ClassVar[str] = "best"

    def ranking(self, of: Candidates, key: Any) -> Int[np.ndarray, " n"]:
        return by_score(of)


@dataclass(frozen=True)
class First(ByWeight):
    """The texts in the order in which they were begun."""

    name: ClassVar[str] = "first"

    def ranking(self, of: Candidates, key: Any) -> Int[np.ndarray, " n"]:
        return np.arange(len(of))


@dataclass(frozen=True)
class Heaviest(ByWeight):
    """The text of the highest weight."""

    name: ClassVar[str] = "heaviest"

    def ranking(self, of: Candidates, key: Any) -> Int[np.ndarray, " n"]:
        return np.lexsort([-of.log_psi, ~of.ended, -of.weights])


@dataclass(frozen=True)
class Sample(ByWeight):
    """A text drawn by weight, then the others in the order in which they would be drawn."""

    name: ClassVar[str] = "sample"

    def ranking(self, of: Candidates, key: Any) -> Int[np.ndarray, " n"]:
        # exponential races: the first is row i with probability W_i, and so on without replacement
        uniforms = np.random.default_rng(np.asarray(jax.random.bits(key, (4,)))).random(len(of))
        with np.errstate(divide="ignore"):
            return np.argsort(-np.log1p(-uniforms) / of.weights, kind="stable")


@dataclass(frozen=True)
class Weighted:
    """The answer with the most weight, and its best text."""

    name: ClassVar[str] = "weighted"
    needs_answer: ClassVar[bool] = True

    def votes(self, of: Candidates) -> Float64[np.ndarray, " n"]:
        return of.weights

    def ranking(self, of: Candidates, key: Any) -> Int[np.ndarray, " n"]:
        return by_answer(of)


@dataclass(frozen=True)
class Majority:
    """The most frequent answer: each possible text has one vote. Wang et al. (2023), self-consistency."""

    name: ClassVar[str] = "majority"
    needs_answer: ClassVar[bool] = True

    def votes(self, of: Candidates) -> Float64[np.ndarray, " n"]:
        return reweighted(of, (of.weights > 0).astype(np.float64)).weights

    def ranking(self, of: Candidates, key: Any) -> Int[np.ndarray, " n"]:
        return by_answer(of)


@dataclass(frozen=True)
class BestOfMajority(Majority):
    """Of the answers whose share of the votes is at least `share`, the one with the best text; then the others.

    Answers are in the order of their best texts, so that the first k distinct ones are what pass@k submits. If no
    answer is frequent enough, the most frequent ones count as such. Di et al. (2025), arXiv:2510.03199, Algorithm 1.

    Attributes:
        share: in [0, 1]; None: two votes, `2 / n`.
    """

    share: float | None = None

    name: ClassVar[str] = "best-of-majority"

    def __post_init__(self) -> None:
        if self.share is not None and not 0 <= self.share <= 1:
            raise InvalidArgument("share", self.share, "None or a number in [0, 1]")

    def ranking(self, of: Candidates, key: Any) -> Int[np.ndarray, " n"]:
        posterior = posterior_of(of)
        least = 2 / max(1, int((of.weights > 0).sum())) if self.share is None else self.share
        least = min(least, max(posterior.values(), default=0.0)) * (1 - 1e-9)
        assert of.answers is not None
        common = np.array([a is not None and posterior.get(a, 0.0) >= least for a in of.answers])
        order = by_score(of)
        return order[np.argsort(~common[order], kind="stable")]


@dataclass(frozen=True)
class Shortest:
    """The shortest text that ended by itself; those that did have one vote each."""

    name: ClassVar[str] = "shortest"
    needs_answer: ClassVar[bool] = False

    def votes(self, of: Candidates) -> Float64[np.ndarray, " n"]:
        counted = of.ended & (of.weights > 0)
        counted = counted if counted.any() else of.weights > 0
        return reweighted(of, counted.astype(np.float64)).weights

    def ranking(self, of: Candidates, key: Any) -> Int[np.ndarray, " n"]:
        return np.lexsort([of.lengths, ~of.ended, ~(of.weights > 0)])


def known() -> dict[str, Selection]:
    """The rules by name, with their own options."""
    from smcgen.scaling.rpc import RPC

    rules = (Best, First, Heaviest, Sample, Weighted, Majority, BestOfMajority, Shortest, RPC)
    return {rule.name: rule() for rule in rules}


def as_selection(selection: str | Selection) -> Selection:
    """A rule by its name, or the rule itself."""
    if isinstance(selection, str):
        if selection not in known():
            raise UnknownName("selection", selection, known())
        return known()[selection]
    if not isinstance(selection, Selection):
        raise InvalidArgument("selection", selection, "a selection rule or one of its names")
    return selection
