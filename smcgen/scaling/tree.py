"""A search tree over the steps of texts: what was visited, what it was worth, and which row holds it.

A node is a text as far as one of its steps. A simulation goes down from the root by PUCT to a node that may be
expanded, draws steps behind it, and tells all nodes on the way what they were worth. With N(v) visits and n(v) draws,

    score(c) = Q(c) N'(c) / (N'(c) + pending) + C n(c) / n(v) sqrt(N(v)) / (1 + N(c)),    N' = 1 + N

so that the prior of a child is the share of the draws that gave it: the policy as it was sampled. Q is scaled to
[0, 1] over the values seen in this tree (Schrittwieser et al. 2020), and a visit whose result is not yet known counts
as one of the least value (virtual loss).
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

import numpy as np

from smcgen.core.arguments import check_counts
from smcgen.errors import InvalidArgument, UnknownName

Tokens = tuple[int, ...]

_TRIES = 32  # ways down that end where another simulation is, before a round has fewer expansions
_FREE = 64  # simulations of a round that end at finished texts


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


@dataclass(eq=False, slots=True)
class Node:
    """A text as far as one of its steps."""

    parent: "Node | None"
    value: float = 0.0  # of the text itself
    row: int = -1  # of the population; -1: it is not held
    ended: bool = False
    count: int = 1  # draws that gave it
    draws: int = 0  # made behind it
    visits: int = 0
    pending: int = 0
    total: float = 0.0  # of the results of its visits
    best: float = 0.0  # of its children; of the text itself until there are any
    children: dict[Tokens, "Node"] = field(default_factory=dict)

    def path(self) -> "Iterator[Node]":
        """From here up to the root."""
        node: Node | None = self
        while node is not None:
            yield node
            node = node.parent


class Expansion(NamedTuple):
    """A node that is expanded: its text is continued in these rows."""

    leaf: Node
    source: int
    rows: list[int]


class Drawn(NamedTuple):
    """A step that was written behind a node; no tokens: nothing could be written."""

    row: int
    tokens: Tokens
    value: float
    ended: bool
    alive: bool


def _pend(leaf: Node, visits: int) -> None:
    for node in leaf.path():
        node.pending += visits


class Tree:
    """The tree of one prompt, held in so many rows of a population.

    Where all rows are taken, the waiting node of the least value makes place; it is lost to the search.
    """

    def __init__(self, rules: Rules, rows: int):
        self.rules, self.root = rules, Node(None, row=0)
        self.held = {0: self.root}  # by row
        self._free = list(range(1, rows))
        self._low, self._high = np.inf, -np.inf
        self.drawn = 0  # steps, in all expansions
        self.longest = 1  # tokens of a step
        self.finished = False  # whether any text is
        self.stuck = False  # nothing is left that could go on alone
        self.waiting = 1  # nodes that have not been expanded, and may be

    def nodes(self) -> Iterator[Node]:
        """All nodes."""
        stack = [self.root]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())

    def plan(self, expansions: int) -> list[Expansion]:
        """Simulations until so many nodes are to be expanded; those that end at a finished text are done on the way."""
        plans: list[Expansion] = []
        blocked: list[Node] = []
        free = _FREE
        while len(plans) < expansions and len(blocked) < _TRIES and free > 0:
            leaf = self._descend()
            if leaf.ended:  # nothing is written for it
                self._result(leaf, leaf.value)
                free -= 1
                continue
            _pend(leaf, 1)
            expands = leaf.row >= 0 and leaf.pending == 1
            if expands:
                plans.append(self._expansion(leaf, self.rules.width))
            else:  # it is being expanded already: the loss stays until another way is better
                blocked.append(leaf)
                if not self.root.children:
                    break
        for leaf in blocked:
            _pend(leaf, -1)
        return plans

    def leading(self) -> Node:
        """The end of the line that was visited most; of an evicted one, the most visited end that is held."""
        node = self.root
        while node.children:
            node = max(node.children.values(), key=self._visited)
        if node.row >= 0:
            return node
        ends = [v for v in self.held.values() if not v.ended and not v.children]
        return max(ends, key=self._visited, default=node)

    def go_on(self) -> list[Expansion]:
        """The leading line alone, by a single step."""
        leaf = self.leading()
        self.stuck = leaf.row < 0
        if self.stuck:
            return []
        _pend(leaf, 1)  # so that it is not evicted to make place for its own continuation
        return [self._expansion(leaf, 1)]

    def grown(self, plan: Expansion, drawn: list[Drawn]) -> None:
        """What was drawn: equal steps are one child, and the simulation's result goes up."""
        leaf = plan.leaf
        _pend(leaf, -1)
        real = [d for d in drawn if d.tokens]
        if not real:  # the budget is spent
            self._free += [d.row for d in drawn]
            if leaf.row < 0:
                leaf.row = self._free.pop()
                self.held[leaf.row] = leaf
            return
        self.waiting -= leaf.draws == 0
        leaf.draws += len(real)
        self.longest = max(self.longest, *(len(d.tokens) for d in real))
        self.finished |= any(d.ended and d.alive for d in real)
        for d in drawn:
            known = leaf.children.get(d.tokens)
            if known is not None:
                known.count += 1
            elif d.tokens and d.alive:
                node = Node(leaf, d.value, d.row, d.ended, best=d.value)
                leaf.children[d.tokens] = self.held[d.row] = node
                self.waiting += not d.ended
                self._low, self._high = min(self._low, d.value), max(self._high, d.value)
                continue
            self._free.append(d.row)
        values = [d.value for d in real if d.alive]
        if not values:  # nothing can follow: this is no way to a text
            if not leaf.children:
                self._remove(leaf)
            return
        self._result(leaf, sum(values) / len(values))

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
        return node.draws + self.rules.width <= self.rules.width * node.visits**alpha

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

    def _expansion(self, leaf: Node, width: int) -> Expansion:
        source, rows = leaf.row, self._claim(leaf, width)
        self.drawn += len(rows)
        return Expansion(leaf, source, rows)

    def _claim(self, leaf: Node, width: int) -> list[int]:
        """Rows for the draws behind a node: free ones, then others'; its own too unless it may be drawn from again."""
        rows = self._own(leaf) if self.rules.widening is None else []
        while len(rows) < width:
            if not self._free and not self._evict():
                break
            rows.append(self._free.pop(0))
        return rows or self._own(leaf)

    def _own(self, leaf: Node) -> list[int]:
        row, leaf.row = leaf.row, -1
        del self.held[row]
        return [row]

    def _evict(self) -> bool:
        """Free the row of a waiting node of the least value, else of an expanded one, else of a finished text.

        The best finished text stays: it is the answer so far.
        """
        # rows are copied all at once, so that one may be let go and drawn from in the same round
        idle = [v for v in self.held.values() if v.draws or not v.pending]
        finished = [v for v in self.held.values() if v.ended]
        if finished:
            idle.remove(max(finished, key=lambda v: v.value))
        if not idle:
            return False
        least = min(idle, key=lambda v: (v.ended, v.draws > 0, v.value))
        if least.draws:  # it stays, and is not drawn from again
            self._let_go(least)
        else:
            self._remove(least)
        return True

    def _let_go(self, node: Node) -> None:
        self._free.append(node.row)
        del self.held[node.row]
        node.row = -1

    def _remove(self, node: Node) -> None:
        """Take a node out, and those above it that then lead nowhere."""
        while True:
            if node.row >= 0:
                self._let_go(node)
            self.waiting -= node.draws == 0 and not node.ended
            parent = node.parent
            if parent is None:
                return
            parent.children = {k: v for k, v in parent.children.items() if v is not node}
            if parent.children or parent.pending:
                return
            node = parent
