"""A search tree over the steps of texts: what has been drawn, what it was worth, and which row holds it.

A node is a text as far as one of its steps. An expansion draws steps behind a node; equal ones are one child. Which
node is expanded next is what searches differ in: `smcgen.scaling.puct`, `smcgen.scaling.frontier`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

Tokens = tuple[int, ...]


@dataclass(eq=False, slots=True)
class Node:
    """A text as far as one of its steps."""

    parent: "Node | None"
    value: float = 0.0  # of the text itself
    row: int = -1  # of the population; -1: it is not held
    ended: bool = False
    whole: bool = False  # it ended by itself, and was not cut off
    depth: int = 0  # steps
    count: int = 1  # draws that gave it
    draws: int = 0  # made behind it
    pending: int = 0  # expansions on the way down to here and below that are not written yet
    visits: int = 0
    total: float = 0.0  # of the results of its visits
    best: float = 0.0  # of its children; of the text itself until there are any
    children: "dict[Tokens, Node]" = field(default_factory=dict)

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
    whole: bool = True  # if it ended: by itself


def pend(leaf: Node, expansions: int) -> None:
    """A node is expanded, or (-1) has been."""
    for node in leaf.path():
        node.pending += expansions


class Tree(ABC):
    """The tree of one prompt, held in so many rows of a population.

    Where all rows are taken, the waiting node of the least `rank` makes place; it is lost to the search.

    Args:
        width: steps drawn behind a node when it is expanded.
        rows: that hold nodes.
        once: a node is drawn from once, and its row is free from then on.
        top: no text is worth more; a finished text of that value ends the search.
    """

    def __init__(self, width: int, rows: int, once: bool, top: float = np.inf):
        self.width, self.once, self.top = width, once, top
        self.root = Node(None, row=0)
        self.held = {0: self.root}  # by row
        self._free = list(range(1, rows))
        self.drawn = 0  # steps, in all expansions
        self.longest = 1  # tokens of a step
        self.deepest = 1  # steps of the longest text that was drawn, one more while it goes on
        self.best: Node | None = (
            None  # the finished text of the highest value; one that was cut off comes after
        )
        self.waiting = 1  # nodes that have not been expanded, and may be
        self.stuck = False  # no text is finished, and none can go on

    @abstractmethod
    def plan(self, expansions: int) -> list[Expansion]:
        """So many nodes to be expanded at once, or as many as there are."""

    @abstractmethod
    def leading(self) -> Node | None:
        """The unfinished text that goes on alone when there is no room for a search; None: there is none."""

    @abstractmethod
    def learned(self, leaf: Node, values: list[float]) -> None:
        """Steps of these values were drawn behind a node."""

    @abstractmethod
    def rank(self, node: Node) -> float:
        """Nodes of low rank are let go first."""

    @abstractmethod
    def vote(self, node: Node) -> float:
        """Log-weight of a finished text."""

    @property
    def bar(self) -> float:
        """What a text must be worth to be the new answer."""
        return self.best.value if self.best is not None and self.best.whole else -np.inf

    @property
    def settled(self) -> bool:
        """Whether no draw can change the result."""
        return self.bar >= self.top or self.stuck or (self.once and self.waiting == 0)

    def nodes(self) -> Iterator[Node]:
        """All nodes."""
        stack = [self.root]
        while stack:
            node = stack.pop()
            yield node
            stack.extend(node.children.values())

    def go_on(self) -> list[Expansion]:
        """The leading line alone, by a single step."""
        leaf = self.leading()
        if leaf is None:
            return []
        pend(leaf, 1)  # so that it is not evicted to make place for its own continuation
        return [self.expansion(leaf, 1)]

    def expansion(self, leaf: Node, width: int) -> Expansion:
        """Rows for draws behind a node."""
        source, rows = leaf.row, self._claim(leaf, width)
        self.drawn += len(rows)
        return Expansion(leaf, source, rows)

    def grown(self, plan: Expansion, drawn: list[Drawn]) -> None:
        """What was drawn: equal steps are one child."""
        leaf = plan.leaf
        pend(leaf, -1)
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
        for d in drawn:
            known = leaf.children.get(d.tokens)
            if known is not None:
                known.count += 1
            elif d.tokens and d.alive:
                self._add(leaf, d)
                continue
            self._free.append(d.row)
        values = [d.value for d in real if d.alive]
        if values:
            self.learned(leaf, values)
        elif not leaf.children:  # nothing can follow: this is no way to a text
            self._remove(leaf)

    def _add(self, leaf: Node, d: Drawn) -> None:
        whole = d.ended and d.whole
        node = Node(leaf, d.value, d.row, d.ended, whole, leaf.depth + 1, best=d.value)
        leaf.children[d.tokens] = self.held[d.row] = node
        self.waiting += not d.ended
        self.deepest = max(self.deepest, node.depth + (not d.ended))
        order = lambda v: (v.whole, v.value)
        if d.ended and (self.best is None or order(node) > order(self.best)):
            self.best = node

    def _claim(self, leaf: Node, width: int) -> list[int]:
        """Rows for the draws behind a node: free ones, then others'; its own too if it is drawn from once."""
        rows = self._own(leaf) if self.once else []
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
        """Free the row of a waiting node of the least rank, else of an expanded one, else of a finished text.

        The best finished text stays: it is the answer so far.
        """
        # rows are copied all at once, so that one may be let go and drawn from in the same round
        idle = [v for v in self.held.values() if v is not self.best and (v.draws or not v.pending)]
        if not idle:
            return False
        least = min(idle, key=lambda v: (v.ended, v.draws > 0, self.rank(v)))
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
