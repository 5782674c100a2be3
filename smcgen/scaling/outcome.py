"""What a strategy returns."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Int

from smcgen.core.arguments import keys_of
from smcgen.core.cost import Cost
from smcgen.core.status import Status
from smcgen.errors import InvalidArgument
from smcgen.scaling.candidates import Candidates, reweighted
from smcgen.scaling.selection import Selection, as_selection, posterior_of
from smcgen.text.answers import AnswerPosterior
from smcgen.text.prompts import Prompt
from smcgen.text.result import SteerResult


@dataclass(frozen=True, repr=False)
class Outcome:
    """What a strategy wrote for one prompt, and what it chose.

    Attributes:
        strategy: its name.
        prompt: the prompt.
        texts: all texts; `weights`: their votes, of sum 1 (or 0 if no text is possible).
        scores: final score of each text by the first reward, NaN without one.
        finish: why each text ended (`Finish` codes).
        ranking: rows from the best on; `chosen`: its first.
        answers: posterior over answers by the votes; None without an extractor.
        cost: what this prompt cost. Tokens are its own; what a batch of prompts did together is divided among them.
        status: OK, BUDGET_EXHAUSTED if a limit ended the search, or how a run failed.
        runs: the populations behind it.
        candidates: all that is known of the texts, with the weights that the runs gave them.
    """

    strategy: str
    prompt: Prompt
    texts: list[str]
    weights: Float64[np.ndarray, " n"]
    scores: Float64[np.ndarray, " n"]
    finish: Int[np.ndarray, " n"]
    ranking: Int[np.ndarray, " n"]
    answers: AnswerPosterior | None
    cost: Cost
    status: Status
    runs: Sequence[SteerResult]
    candidates: Candidates

    @property
    def chosen(self) -> int:
        """Index of the chosen text."""
        return int(self.ranking[0])

    @property
    def text(self) -> str:
        """The chosen text."""
        return self.texts[self.chosen]

    @property
    def answer(self) -> str | None:
        """What the chosen text answers; None without an extractor, or if it has no answer."""
        return None if self.candidates.answers is None else self.candidates.answers[self.chosen]

    def run_of(self, row: int) -> tuple[SteerResult, int]:
        """The run that a text is of, and its row there."""
        for run in self.runs:
            if row < len(run.texts):
                return run, row
            row -= len(run.texts)
        raise IndexError(row)

    def top(self, k: int) -> list[Any]:
        """The answers (texts without an extractor) of the k best distinct ones: what pass@k looks at."""
        of: Sequence[Any] = self.candidates.answers or self.texts
        distinct = dict.fromkeys(of[row] for row in self.ranking.tolist())
        return [a for a in distinct if a is not None][:k]

    def by(self, selection: str | Selection, key: Any = 0) -> "Outcome":
        """The same texts, chosen among by another rule: no text is written again, and nothing is spent.

        Raises:
            InvalidArgument: the rule needs answers, and there is no extractor.
        """
        rule, of = as_selection(selection), self.candidates
        if rule.needs_answer and of.answers is None:
            raise InvalidArgument("selection", rule.name, "a rule that needs no answers")
        voted = reweighted(of, rule.votes(of))
        return replace(
            self,
            weights=voted.weights,
            ranking=rule.ranking(voted, keys_of(key, None)),
            answers=None if of.answers is None else posterior_of(voted),
        )

    def __repr__(self) -> str:
        said = self.text if self.answers is None else self.answer
        shown = said if said is None or len(said) <= 70 else said[:67] + "..."
        what = "text" if self.answers is None else "answer"
        return (
            f"Outcome({self.strategy}: {what}={shown!r}, {len(self.texts)} texts, "
            f"status={self.status.name}, {self.cost})"
        )
