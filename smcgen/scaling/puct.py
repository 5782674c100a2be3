"""Monte Carlo tree search: a simulation goes down by what is known of each node, and tells it what came of it.

A simulation goes down from the root to a node that may be expanded, draws steps behind it, and takes the mean of their
values up to the root. With N(v) visits and n(v) draws it takes the child of the highest

    score(c) = Q(c) N'(c) / (N'(c) + pending) + C n(c) / n(v) sqrt(N(v)) / (1 + N(c)),    N' = 1 + N

so that the prior of a child is the share of the draws that gave it: the policy as it was sampled. Q is scaled to
[0, 1] over the values seen in this tree (Schrittwieser et al. 2020), and a visit whose result is not yet known counts
as one of the least value (virtual loss).
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from smcgen.core.arguments import check_counts
from smcgen.errors import InvalidArgument, UnknownName
from smcgen.scaling.tree import Expansion, Node, Tree, pend

_TRIES = 32  # ways down that end where another simulation is, before a round has fewer expansions
_IDLE = 64  # simulations of a round that end at finished texts


@dataclass(frozen=True)
class Rules:
    """How a tree is searched.

    Attributes:
        width: steps drawn behind a node when it is expanded.
        exploration: C, the weight of what was seldom visited.
        backup: what a node is worth: the "mean" of its own value and of all results below it, or the "max" of its
            children.
        widening: a node with N visits is drawn from again as long as it then has at most `width * N ** widening` draws;
            None: never.
    """

    width: int = 4
    exploration: float = 1.0
    backup: Literal["mean", "max"] = "mean"
    widening: float | None = None

    def __post_init__(self) -> None:
        check_counts(width=self.width)
        if not 0 <= self.exploration < np.inf:
            raise InvalidArgument("exploration", self.exploration, "a number >= 0")
        if self.backup not in ("mean", "max"):
            raise UnknownName("backup", self.backup, ("mean", "max"))
        if self.widening is not None and not 0 < self.widening <= 1:
            raise InvalidArgument("widening", self.widening, "None or a number in (0, 1]")


class Visited(Tree):
    """A tree whose nodes are visited by simulations."""

    def __init__(self, rules: Rules, rows: int, top: float = np.inf):
        super().__init__(rules.width, rows, rules.widening is None, top)
        self.rules = rules
        self._low, self._high = np.inf, -np.inf

    def plan(self, expansions: int) -> list[Expansion]:
        """Simulations until so many nodes are to be expanded; those that end at a finished text are done on the way."""
        plans: list[Expansion] = []
        blocked: list[Node] = []
        idle = _IDLE
        while len(plans) < expansions and len(blocked) < _TRIES and idle > 0:
            leaf = self._descend()
            if leaf.ended:  # nothing is written for it
                self._result(leaf, leaf.value)
                idle -= 1
                continue
            pend(leaf, 1)
            expands = leaf.row >= 0 and leaf.pending == 1
            if expands:
                plans.append(self.expansion(leaf, self.width))
            else:  # it is being expanded already: the loss stays until another way is better
                blocked.append(leaf)
                if not self.root.children:
                    break
        for leaf in blocked:
            pend(leaf, -1)
        return plans

    def leading(self) -> Node | None:
        """The end of the line that was visited most; of an evicted one, the most visited end that is held."""
        node = self.root
        while node.children:
            node = max(node.children.values(), key=self._visited)
        if node.row >= 0:
            return node
        ends = [v for v in self.held.values() if not v.ended and not v.children]
        return max(ends, key=self._visited, default=None)

    def learned(self, leaf: Node, values: list[float]) -> None:
        self._low, self._high = min(self._low, *values), max(self._high, *values)
        self._result(leaf, sum(values) / len(values))

    def rank(self, node: Node) -> float:
        return node.value

    def vote(self, node: Node) -> float:
        return float(np.log1p(node.visits))

    def worth(self, node: Node) -> float:
        """Q: what a node is worth."""
        if self.rules.backup == "max":
            return node.best
        return (node.value + node.total) / (1 + node.visits)

    def _descend(self) -> Node:
        node = self.root
        while node.children and not self._widens(node):
            node = max(node.children.values(), key=self._score)
        return node

    def _widens(self, node: Node) -> bool:
        alpha = self.rules.widening
        if alpha is None or node.row < 0 or node.pending:
            return False
        return node.draws + self.width <= self.width * node.visits**alpha

    def _score(self, child: Node) -> float:
        parent = child.parent
        assert parent is not None
        span = self._high - self._low
        q = (self.worth(child) - self._low) / span if span > 0 else 1.0
        q *= (1 + child.visits) / (1 + child.visits + child.pending)
        prior = child.count / parent.draws
        often = np.sqrt(parent.visits + parent.pending) / (1 + child.visits + child.pending)
        return q + self.rules.exploration * prior * often

    def _result(self, leaf: Node, value: float) -> None:
        for node in leaf.path():
            node.visits += 1
            node.total += value
            node.best = max((child.best for child in node.children.values()), default=node.value)

    def _visited(self, node: Node) -> tuple[int, float]:
        return node.visits, self.worth(node)
