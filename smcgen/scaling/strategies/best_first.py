"""Best-first search: the text that promises most is continued next, wherever in the tree of steps it is."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

from smcgen.scaling.frontier import Frontier
from smcgen.scaling.strategies.search import Search
from smcgen.scaling.tree import Tree


@dataclass(frozen=True, kw_only=True)
class BestFirst(Search):
    """The text that promises most is continued `width` times (`smcgen.scaling.frontier` says what that is).

    A*-decoding: a text's priority is what a process reward says of it, and unlike a beam the search may go back to a
    text that it left behind. A text is promising if its score is high for its depth, and if draws behind it still bring
    what is new. The finished text of the highest value is the answer, and texts that can only lead to less are not
    continued: under a reward that is right about each of them it is the best text that the drawn steps lead to. The
    weights are in proportion to psi. It targets nothing.

    Attributes:
        anytime: what is left of the budget when no drawn text can be better is spent on further draws behind the
            promising ones; False: it stays unspent, and each text is drawn from once.

    Hart, Nilsson and Raphael (1968); Hansen and Zhou (2007), anytime A*; on steps of texts with a process reward:
    Chatziveroglou (2025), arXiv:2505.13672.
    """

    anytime: bool = True

    name: ClassVar[str] = "a-star"

    def tree(self, width: int, top: float) -> Callable[[int], Tree]:
        return partial(Frontier, width, once=not self.anytime, top=top)
