"""Monte Carlo tree search: which step is continued next is decided by what came of those tried before."""

from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from jaxtyping import Bool

from smcgen.core.arguments import check_counts
from smcgen.errors import UnknownName
from smcgen.scaling.base import Rewarded
from smcgen.scaling.job import Job
from smcgen.scaling.ledger import Ledger
from smcgen.scaling.rows import some_rows
from smcgen.scaling.tree import Drawn, Expansion, Rules, Tree
from smcgen.scaling.waiting import Waiting, searching
from smcgen.text.potentials.tilt import Tilt
from smcgen.text.result import SteerResult
from smcgen.text.rewards.base import Reward
from smcgen.text.state import TextState
from smcgen.text.steer import steered
from smcgen.text.texts import Finish


@dataclass(frozen=True, kw_only=True)
class MCTS(Rewarded):
    """Monte Carlo tree search over steps, a process reward in the place of random playouts.

    A simulation goes down a prompt's tree of steps by PUCT (`smcgen.scaling.tree` has the formula), expands the node
    it comes to by `width` continuations drawn from the model, which the reward scores, and takes the mean of their
    values up to the root; at a finished text it takes that text's own value up. In each round `leaves` nodes of every
    prompt are written in one call of the engine.

    A node's value is psi for a reward that is a probability, else log psi. The root has as many visits as there were
    simulations. If values are those of the best text that can follow, the search goes to the best text that can be
    reached by the steps that were drawn. Otherwise it targets nothing.

    There are `n * steps` draws, as many as n whole texts have steps; without a limit of rollouts as many as the other
    limits allow. Simulations that end at finished texts cost nothing. Until a text is finished, what one needs to its
    end is kept back, and in the end the line that was visited most goes on alone, so that there is an answer. Without
    `widening` a tree all of whose nodes have been drawn from is searched no further. At most `held * n` nodes are
    held; the worst make place for others. The candidates are the (at most n) finished texts. Texts are limited by
    `max_tokens`: `Writing.max_steps` limits the work, not a single text.

    Attributes:
        width: continuations that are drawn behind a node.
        leaves: nodes of each prompt that are expanded at once; what is pending counts as a loss meanwhile.
        exploration, backup, widening: see `smcgen.scaling.tree.Rules`.
        by: the answer is the finished text of the highest "value", or that with the most "visits".
        held: rows of the population for each rollout: more hold more of the tree.

    Kocsis and Szepesvári (2006); PUCT: Silver et al. (2017); on steps of texts with a process reward: Feng et al.
    (2023), arXiv:2309.17179; widening: Couëtoux et al. (2011).
    """

    width: int = 4
    leaves: int = 1
    exploration: float = 1.0
    backup: Literal["mean", "max"] = "mean"
    widening: float | None = 0.5
    by: Literal["value", "visits"] = "value"
    held: int = 4

    name: ClassVar[str] = "mcts"

    def __post_init__(self) -> None:
        check_counts(leaves=self.leaves, held=self.held)
        if self.by not in ("value", "visits"):
            raise UnknownName("by", self.by, ("value", "visits"))
        _ = self.rules

    @property
    def rules(self) -> Rules:
        """How a tree is searched."""
        return Rules(self.width, self.exploration, self.backup, self.widening)

    def default_rule(self, answered: bool) -> str:
        return "best" if self.by == "value" else "heaviest"

    def write(self, job: Job) -> None:
        n = job.budget.texts(job.writing.max_tokens, job.writing.steps)
        rows = n * self.held
        rules = replace(self.rules, width=min(self.width, rows))
        limits = job.budget.tokens, job.budget.reward_calls
        work = n * job.writing.steps
        if job.budget.rollouts is None:
            # an expansion costs a token and a call for each row at least
            work = min(limit for limit in limits if limit is not None)
        reward = job.reward.reward if isinstance(job.reward, Tilt) else job.reward
        probability = isinstance(reward, Reward) and reward.probability

        kind = partial(
            Searching,
            rules=rules,
            leaves=self.leaves,
            ledger=job.ledger,
            exponent=probability and self.scale in (None, "log"),
        )
        model = searching(kind, work, job.writing.steps, rules.width)
        potential = steered(job.reward, self.strength, None, self.scale)
        job.write(rows, potential, model=model, ess_threshold=0.0)

    def counted(self, runs: list[SteerResult]) -> list[SteerResult]:
        return [_found(run, len(run.texts) // self.held, self.by) for run in runs]


def _found(run: SteerResult, n: int, by: str) -> SteerResult:
    """The finished texts of a tree, weighted by how often they were evaluated; at most n, the best ones.

    If there are none, those that could have gone on.
    """
    rows = np.flatnonzero(~np.isin(run.finish, (Finish.RUNNING, Finish.DEAD)))
    rows = rows if len(rows) else np.flatnonzero(run.finish == Finish.RUNNING)
    rows = rows if len(rows) else np.arange(len(run.texts))
    worth = run.weights if by == "visits" else run.history[-1].log_psi
    order = np.lexsort([-worth[rows], ~run.population.whole[rows]])
    return some_rows(run, np.sort(rows[order[:n]]))


@dataclass(frozen=True)
class Forest(TextState):
    """Rows that hold the nodes of a tree for each prompt; free rows are dead."""

    trees: tuple[Tree, ...] = ()
    log_votes: np.ndarray = field(default_factory=lambda: np.zeros(0))  # of rows: of visits


class _Planned(NamedTuple):
    problem: int
    plan: Expansion


@dataclass(frozen=True)
class Searching(Waiting):
    """Texts of which a step expands some nodes of each prompt's tree; the other rows wait.

    Weights are in proportion to how often a finished text was evaluated.
    """

    rules: Rules = Rules()
    leaves: int = 1
    ledger: Ledger = field(default=None, repr=False)  # pyright: ignore[reportAssignmentType]
    exponent: bool = True

    def init(self, key: Any, n: int) -> tuple[TextState, Any]:
        state, log_g = super().init(key, n)
        trees = tuple(Tree(self.rules, n) for _ in self.prompts)
        forest = Forest(**vars(state), trees=trees, log_votes=np.zeros(len(state.texts)))
        return self._marked(forest)[0], log_g

    def over(self, state: Forest) -> Bool[np.ndarray, " problems"]:
        """Problems whose draws are made, or whose tree is all written, or that may write nothing any more."""
        halted = self.ledger.halted[self.ledger.numbers(self.prompts)]
        known = [
            tree.drawn + (self.rules.width if tree.finished else 1) > self.work
            or tree.stuck
            or (self.rules.widening is None and tree.waiting == 0)
            for tree in state.trees
        ]
        return halted | np.array(known, bool)

    def planned(self, state: Forest, b: int) -> list[Expansion]:
        """What is expanded next in a tree: leaves, or, where nothing is to spare, the leading line alone."""
        tree, width = state.trees[b], self.rules.width
        if tree.finished:
            return tree.plan(min(self.leaves, (self.work - tree.drawn) // width))
        leading, number = tree.leading(), self.ledger.numbers(self.prompts)[b]
        depth = len(list(leading.path())) - 1
        length = int(state.texts.lengths[b * state.texts.n + max(0, leading.row)])
        calls = self.ledger.calls_left()[number] - max(0, self.text_steps - depth - 1)
        tokens = self.ledger.tokens_left()[number] - (self.max_tokens - length)
        room = min(self.room(tree.drawn, depth), int(calls), int(tokens) // tree.longest)
        return tree.plan(min(self.leaves, room // width)) if room >= width else tree.go_on()

    def step(self, key: Any, t: Any, state: Any) -> tuple[TextState, Any]:
        n, planned = state.texts.n, list[_Planned]()
        ancestors, waiting = self.nobody(state)
        for b in np.flatnonzero(~self.over(state)).tolist():
            for plan in self.planned(state, b):
                ancestors[b, plan.rows], waiting[b, plan.rows] = plan.source, False
                planned.append(_Planned(b, plan))
        state, log_g = self.continued(key, t, state, ancestors, waiting)
        with np.errstate(over="ignore"):
            values = np.exp(state.log_psi) if self.exponent else state.log_psi
        for b, plan in planned:
            state.trees[b].grown(
                plan, [_drawn(state, values, row, b * n + row) for row in plan.rows]
            )
        state, log_votes = self._marked(state)
        return state, np.where(np.isnan(np.asarray(log_g)), np.nan, self._per_problem(log_votes))

    def _marked(self, state: Forest) -> tuple[Forest, np.ndarray]:
        """Free rows marked, and what the rows' log-votes have gained."""
        finish = np.full(len(state.texts), np.int8(Finish.DEAD))
        log_votes = np.zeros(len(state.texts))
        for b, tree in enumerate(state.trees):
            for row, node in tree.held.items():
                at = b * state.texts.n + row
                finish[at] = state.texts.finish[at]
                log_votes[at] = np.log1p(node.visits) if node.ended else 0.0
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
    )
