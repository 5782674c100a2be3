"""Twists that are known or learned, proposals, nested SMC (extra `learn`).

| what | when |
|---|---|
| `controlled_smc` | Gaussian or finite-state kernels: learn what comes, and let the kernels know. Try this first |
| `Twisted`, `Lookahead` | a twist is known, or came from elsewhere: `Quadratic`, `Table`, `Network`, any function |
| `Nested` | kernels that can only be drawn from: an inner particle system for each particle |
"""

from typing import TYPE_CHECKING

from smcgen._lazy import lazy

if TYPE_CHECKING:
    from smcgen.learn.controlled import Controlled as Controlled
    from smcgen.learn.controlled import controlled_smc as controlled_smc
    from smcgen.learn.kernels import Kernels as Kernels
    from smcgen.learn.lookahead import Lookahead as Lookahead
    from smcgen.learn.nested import Nested as Nested
    from smcgen.learn.proposal import Proposed as Proposed
    from smcgen.learn.twisted import Twisted as Twisted
    from smcgen.learn.twists.base import Learnable as Learnable
    from smcgen.learn.twists.base import Tilting as Tilting
    from smcgen.learn.twists.base import Twist as Twist
    from smcgen.learn.twists.network import Network as Network
    from smcgen.learn.twists.quadratic import Quadratic as Quadratic
    from smcgen.learn.twists.table import Table as Table

_NAMES = {
    "Controlled": "smcgen.learn.controlled",
    "Kernels": "smcgen.learn.kernels",
    "Learnable": "smcgen.learn.twists.base",
    "Lookahead": "smcgen.learn.lookahead",
    "Nested": "smcgen.learn.nested",
    "Network": "smcgen.learn.twists.network",
    "Proposed": "smcgen.learn.proposal",
    "Quadratic": "smcgen.learn.twists.quadratic",
    "Table": "smcgen.learn.twists.table",
    "Tilting": "smcgen.learn.twists.base",
    "Twist": "smcgen.learn.twists.base",
    "Twisted": "smcgen.learn.twisted",
    "controlled_smc": "smcgen.learn.controlled",
}
__all__ = sorted(_NAMES)
__getattr__, __dir__ = lazy(__name__, _NAMES)
