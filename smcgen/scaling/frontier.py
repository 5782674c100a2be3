"""Best-first search: the text that promises most is continued next, wherever in the tree it is.

A text v at depth t is worth psi(v), but falls short of what it can lead to: scores that say "right so far" fall along
each text. So the search goes by what is usual at that depth, and by what its draws have shown. With m draws behind v,
of which some steps c came once only,

    f(v) = (psi(v) + sum of psi(c) over these) / (m + 1) / u(t)
    u(t) = prod_{s < t} (sum of max_c psi(c)) / (sum of psi(v))

where the last two sums are over the expanded nodes v of depth s, and c are their children. So -log psi is the cost as
far as here (g), and -log f is g + h with h what the rest usually costs, up to a constant. One that was not drawn from
has f = psi / u. One whose draws all agree has little left to find: the mean of psi(c) [c came once] over its draws is
the leave-one-out estimate of what a further draw brings that is new (Good 1953).

A text of no higher value than the best finished one is not continued. If psi does not rise along a text it cannot lead
to a better one (Hansen and Zhou 2007, anytime A*: an h that may be wrong orders, an admissible one, here 0, prunes).
"""

import math

import numpy as np

from smcgen.scaling.tree import Expansion, Node, Tree, pend

_LEAST = -700.0  # whose exponential is positive
_log_sum = np.logaddexp.reduce  # log of a sum of exponentials


class Frontier(Tree):
    """A tree whose best open node is expanded; values are log psi."""

    def __init__(self, width: int, rows: int, once: bool, top: float = np.inf):
        super().__init__(width, rows, once, top)
        self.root.value = top
        self._promise: dict[Node, float] = {}  # of nodes that were drawn from
        self._sums: list[
            tuple[float, float]
        ] = []  # by depth: log of the sums of psi before and after a step
        self._usual = [0.0]  # log u, by depth

    def plan(self, expansions: int) -> list[Expansion]:
        plans: list[Expansion] = []
        while len(plans) < expansions and (leaf := max(self._open(), key=self.rank, default=None)):
            pend(leaf, 1)
            plans.append(self.expansion(leaf, self.width))
        return plans

    def leading(self) -> Node | None:
        """The longest text, the best of those that are as long: it stays the same one."""
        return max(self._open(), key=lambda v: (v.depth, v.value), default=None)

    def learned(self, leaf: Node, values: list[float]) -> None:
        children = leaf.children.values()
        after = max((c.value for c in children), default=max(values))
        before = leaf.value if math.isfinite(leaf.value) else after  # of the root, without a bound
        new = [c.value for c in children if c.count == 1]
        self._promise[leaf] = _log_sum([before, *new]) - math.log(leaf.draws + 1)
        self._sums += [(-math.inf, -math.inf)] * (leaf.depth + 1 - len(self._sums))
        sums = self._sums[leaf.depth]
        self._sums[leaf.depth] = _log_sum([sums[0], before]), _log_sum([sums[1], after])
        self._usual = [0.0]
        for start, end in self._sums:
            self._usual.append(self._usual[-1] + (end - start if start > -math.inf else 0.0))

    def rank(self, node: Node) -> float:
        """log f; -inf for what can lead to nothing better."""
        if not self._is_open(node):
            return -math.inf if not node.ended else node.value
        value = node.value if math.isfinite(node.value) else 0.0
        return self._promise.get(node, value) - self._usual[node.depth]

    def vote(self, node: Node) -> float:
        """In proportion to psi; a finite number, since rows change hands."""
        assert self.best is not None
        return max(node.value - self.best.value, _LEAST) if self.best.value > -math.inf else 0.0

    @property
    def settled(self) -> bool:
        return super().settled or not self._open()

    def _open(self) -> list[Node]:
        return [v for v in self.held.values() if not v.pending and self._is_open(v)]

    def _is_open(self, node: Node) -> bool:
        if node.ended or (self.once and node.draws):
            return False
        return node.value > self.bar
