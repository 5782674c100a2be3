"""Monte Carlo tree search: which step is continued next is decided by what came of those tried before."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Literal

import numpy as np

from smcgen.errors import UnknownName
from smcgen.scaling.puct import Rules, Visited
from smcgen.scaling.strategies.search import Search
from smcgen.scaling.tree import Tree
from smcgen.text.result import SteerResult


@dataclass(frozen=True, kw_only=True)
class MCTS(Search):
    """Monte Carlo tree search over steps, a process reward in the place of random playouts.

    A simulation goes down a prompt's tree of steps by PUCT (`smcgen.scaling.puct` has the formula), expands the node
    it comes to by `width` continuations drawn from the model, which the reward scores, and takes the mean of their
    values up to the root; at a finished text it takes that text's own value up, which costs nothing. What is pending in
    a round counts as a loss meanwhile.

    A node's value is psi for a reward that is a probability, else log psi. The root has as many visits as there were
    simulations, and weights are in proportion to visits. If values are those of the best text that can follow, the
    search goes to the best text that can be reached by the steps that were drawn. Otherwise it targets nothing. Without
    `widening` a tree all of whose nodes have been drawn from is searched no further.

    Attributes:
        exploration, backup, widening: see `smcgen.scaling.puct.Rules`.
        by: the answer is the finished text of the highest "value", or that with the most "visits".

    Kocsis and Szepesvári (2006); PUCT: Silver et al. (2017); on steps of texts with a process reward: Feng et al.
    (2023), arXiv:2309.17179; widening: Couëtoux et al. (2011).
    """

    exploration: float = 1.0
    backup: Literal["mean", "max"] = "mean"
    widening: float | None = 0.5
    by: Literal["value", "visits"] = "value"

    name: ClassVar[str] = "mcts"
    exponent: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.by not in ("value", "visits"):
            raise UnknownName("by", self.by, ("value", "visits"))
        _ = self.rules

    @property
    def rules(self) -> Rules:
        """How a tree is searched."""
        return Rules(self.width, self.exploration, self.backup, self.widening)

    def default_rule(self, answered: bool) -> str:
        return "best" if self.by == "value" else "heaviest"

    def worth(self, run: SteerResult) -> np.ndarray:
        return run.weights if self.by == "visits" else super().worth(run)

    def tree(self, width: int, top: float) -> Callable[[int], Tree]:
        return partial(Visited, replace(self.rules, width=width), top=top)
