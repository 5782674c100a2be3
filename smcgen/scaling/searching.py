"""Texts of which a step expands some nodes of each prompt's search tree, while the others wait."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Int

from smcgen.scaling.ledger import Ledger
from smcgen.scaling.tree import Drawn, Expansion, Tree
from smcgen.text.model import TextModel
from smcgen.text.state import TextState
from smcgen.text.texts import Finish


@dataclass(frozen=True)
class Forest(TextState):
    """Rows that hold the nodes of a tree for each prompt; free rows are dead."""

    trees: tuple[Tree, ...] = ()
    log_votes: np.ndarray = field(default_factory=lambda: np.zeros(0))  # of rows that are finished


class _Planned(NamedTuple):
    problem: int
    plan: Expansion


@dataclass(frozen=True)
class Searching(TextModel):
    """A text model whose population holds a search tree for each prompt.

    Weights are the votes of finished texts.

    Attributes:
        tree: makes a tree of so many rows.
        leaves: nodes of a tree that are expanded at once.
        work: draws of each prompt: rows that are continued by a step, in all steps together.
        texts: whole texts whose steps are so many draws, see `allowed`; None: `work` alone counts.
        text_steps: steps that a text has at most.
        ledger: what each prompt may still spend.
        exponent: whether values are psi, or log psi.
    """

    tree: Callable[[int], Tree] = field(default=None, repr=False)  # pyright: ignore[reportAssignmentType]
    leaves: int = 1
    work: int = 1
    texts: int | None = None
    text_steps: int = 1
    ledger: Ledger = field(default=None, repr=False)  # pyright: ignore[reportAssignmentType]
    exponent: bool = True

    def init(self, key: Any, n: int) -> tuple[TextState, Any]:
        state, log_g = super().init(key, n)
        trees = tuple(self.tree(n) for _ in self.prompts)
        forest = Forest(**vars(state), trees=trees, log_votes=np.zeros(len(state.texts)))
        return self._marked(forest)[0], log_g

    def allowed(self, tree: Tree) -> int:
        """Draws of a tree, as many as `texts` whole texts have steps.

        A text counts with the steps of the longest one that was drawn; with the most that there may be, until one is
        finished.
        """
        if self.texts is None or tree.best is None:
            return self.work
        return min(self.work, self.texts * tree.deepest)

    def over(self, state: Forest) -> Bool[np.ndarray, " problems"]:
        """Problems whose draws are made, in which nothing is left to draw, or that may write nothing any more."""
        halted = self.ledger.halted[self.ledger.numbers(self.prompts)]
        made = [
            tree.drawn + (1 if tree.best is None else tree.width) > self.allowed(tree)
            for tree in state.trees
        ]
        return halted | np.array(made, bool) | [tree.settled for tree in state.trees]

    def done(self, state: Any) -> Any:
        """As `over`, without an axis for a single prompt."""
        over = self.over(state)
        return over[0] if self.num_problems is None else over

    def planned(self, state: Forest, b: int) -> list[Expansion]:
        """What is expanded next in a tree: leaves, or, where nothing is to spare, the leading line alone.

        Until a text is finished, what one needs to its end is kept back: a search that spreads out all of its draws may
        have many texts begun in the end and none finished.
        """
        tree = state.trees[b]
        if tree.best is not None:
            return tree.plan(min(self.leaves, (self.allowed(tree) - tree.drawn) // tree.width))
        leading, number = tree.leading(), self.ledger.numbers(self.prompts)[b]
        if leading is None:
            tree.stuck = True
            return []
        steps = max(0, self.text_steps - leading.depth - 1)  # after the next one
        length = int(state.texts.lengths[b * state.texts.n + leading.row])
        calls = int(self.ledger.calls_left()[number]) - steps
        tokens = int(self.ledger.tokens_left()[number]) - (self.max_tokens - length)
        room = min(self.work - tree.drawn - steps, calls, tokens // tree.longest)
        if room < tree.width:
            return tree.go_on()
        return tree.plan(min(self.leaves, room // tree.width))

    def step(self, key: Any, t: Any, state: Any) -> tuple[TextState, Any]:
        n, planned = state.texts.n, list[_Planned]()
        problems = len(self.prompts)
        ancestors = np.tile(np.arange(n, dtype=np.int32), (problems, 1))
        waiting = np.ones((problems, n), bool)
        for b in np.flatnonzero(~self.over(state)).tolist():
            for plan in self.planned(state, b):
                ancestors[b, plan.rows], waiting[b, plan.rows] = plan.source, False
                planned.append(_Planned(b, plan))
        state, log_g = self._continued(key, t, state, ancestors, waiting)
        with np.errstate(over="ignore"):
            values = np.exp(state.log_psi) if self.exponent else state.log_psi
        for b, plan in planned:
            state.trees[b].grown(
                plan, [_drawn(state, values, row, b * n + row) for row in plan.rows]
            )
        state, log_votes = self._marked(state)
        return state, np.where(np.isnan(np.asarray(log_g)), np.nan, self._per_problem(log_votes))

    def _continued(
        self,
        key: Any,
        t: Any,
        state: Any,
        ancestors: Int[np.ndarray, "problems n"],
        waiting: Bool[np.ndarray, "problems n"],
    ) -> tuple[Any, Any]:
        """Rows become copies of their ancestors, and those that do not wait go on by a step."""
        if (ancestors != np.arange(state.texts.n)).any():
            state = self.take(state, ancestors if self.num_problems is not None else ancestors[0])
        finish, wait = state.texts.finish, waiting.ravel()
        masked = np.where(wait & (finish == Finish.RUNNING), np.int8(Finish.LENGTH), finish)
        state = replace(state, texts=replace(state.texts, finish=masked))
        state, log_g = super().step(key, t, state)
        restored = np.where(wait, finish, state.texts.finish)
        return replace(state, texts=replace(state.texts, finish=restored)), log_g

    def _marked(self, state: Forest) -> tuple[Forest, np.ndarray]:
        """Free rows marked, and what the rows' log-votes have gained."""
        finish = np.full(len(state.texts), np.int8(Finish.DEAD))
        log_votes = np.zeros(len(state.texts))
        for b, tree in enumerate(state.trees):
            for row, node in tree.held.items():
                at = b * state.texts.n + row
                finish[at] = state.texts.finish[at]
                log_votes[at] = tree.vote(node) if node.ended else 0.0
        texts = replace(state.texts, finish=finish)
        gained = log_votes - state.log_votes
        return replace(state, texts=texts, log_votes=log_votes), gained


def _drawn(state: Any, values: np.ndarray, row: int, at: int) -> Drawn:
    tokens, finish = state.step[at], state.texts.finish[at]
    return Drawn(
        row,
        tuple(tokens[tokens >= 0].tolist()),
        float(values[at]),
        bool(finish != Finish.RUNNING),
        bool(finish != Finish.DEAD),
        bool(finish in (Finish.EOS, Finish.STOP)),
    )
