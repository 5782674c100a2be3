"""Learned twists and proposals, nested SMC, evidence bounds (extra `learn`).

| what | when |
|---|---|
| `controlled_smc` | Gaussian or finite-state kernels: learn what comes, and let the kernels know. Try this first |
| `Twisted`, `Lookahead` | a twist is known, or came from elsewhere: `Quadratic`, `Table`, `Network`, any function |
| `fit` | a proposal, a twist or the model itself as a function of parameters: gradient steps on E[log Z-hat] |
| `Nested` | kernels that can only be drawn from: an inner particle system for each particle |
| `fit_twist` | runs of engines: a network of what a record is worth |
| `evidence_bounds` | how far log Z-hat is from log Z, on simulated data |
"""

from typing import TYPE_CHECKING

from smcgen._lazy import lazy

if TYPE_CHECKING:
    from smcgen.learn.bounds import EvidenceBounds as EvidenceBounds
    from smcgen.learn.bounds import evidence_bounds as evidence_bounds
    from smcgen.learn.controlled import Controlled as Controlled
    from smcgen.learn.controlled import controlled_smc as controlled_smc
    from smcgen.learn.fitting import fit as fit
    from smcgen.learn.kernels import Kernels as Kernels
    from smcgen.learn.lookahead import Lookahead as Lookahead
    from smcgen.learn.nested import Nested as Nested
    from smcgen.learn.objective import filtering_bound as filtering_bound
    from smcgen.learn.proposal import GaussianProposal as GaussianProposal
    from smcgen.learn.proposal import Proposed as Proposed
    from smcgen.learn.saving import load_params as load_params
    from smcgen.learn.saving import save_params as save_params
    from smcgen.learn.training import Fit as Fit
    from smcgen.learn.training import FitError as FitError
    from smcgen.learn.training import Step as Step
    from smcgen.learn.training import train as train
    from smcgen.learn.twisted import Twisted as Twisted
    from smcgen.learn.twists.base import Learnable as Learnable
    from smcgen.learn.twists.base import Tilting as Tilting
    from smcgen.learn.twists.base import Twist as Twist
    from smcgen.learn.twists.network import Network as Network
    from smcgen.learn.twists.quadratic import Quadratic as Quadratic
    from smcgen.learn.twists.table import Table as Table
    from smcgen.learn.value import LearnedTwist as LearnedTwist
    from smcgen.learn.value import fit_twist as fit_twist
    from smcgen.learn.value import log_returns as log_returns

_NAMES = {
    "Controlled": "smcgen.learn.controlled",
    "EvidenceBounds": "smcgen.learn.bounds",
    "Fit": "smcgen.learn.training",
    "FitError": "smcgen.learn.training",
    "GaussianProposal": "smcgen.learn.proposal",
    "Kernels": "smcgen.learn.kernels",
    "Learnable": "smcgen.learn.twists.base",
    "LearnedTwist": "smcgen.learn.value",
    "Lookahead": "smcgen.learn.lookahead",
    "Nested": "smcgen.learn.nested",
    "Network": "smcgen.learn.twists.network",
    "Proposed": "smcgen.learn.proposal",
    "Quadratic": "smcgen.learn.twists.quadratic",
    "Step": "smcgen.learn.training",
    "Table": "smcgen.learn.twists.table",
    "Tilting": "smcgen.learn.twists.base",
    "Twist": "smcgen.learn.twists.base",
    "Twisted": "smcgen.learn.twisted",
    "controlled_smc": "smcgen.learn.controlled",
    "evidence_bounds": "smcgen.learn.bounds",
    "filtering_bound": "smcgen.learn.objective",
    "fit": "smcgen.learn.fitting",
    "fit_twist": "smcgen.learn.value",
    "load_params": "smcgen.learn.saving",
    "log_returns": "smcgen.learn.value",
    "save_params": "smcgen.learn.saving",
    "train": "smcgen.learn.training",
}
__all__ = sorted(_NAMES)
__getattr__, __dir__ = lazy(__name__, _NAMES)
