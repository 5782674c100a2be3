"""smcgen: steer text and diffusion generation, and any state-space model, with particles.

Start with `smcgen.steer` (a language model and a reward) or `smcgen.smc` (any Feynman-Kac model). Parts are in
`smcgen.text`, `smcgen.text.rewards`, `smcgen.text.factors` and `smcgen.resampling`.
"""

from typing import TYPE_CHECKING

from smcgen._lazy import lazy
from smcgen._version import __version__ as __version__

if TYPE_CHECKING:
    from smcgen.core.additive import fixed_lag as fixed_lag
    from smcgen.core.additive import smooth_additive as smooth_additive
    from smcgen.core.backward import backward_sample as backward_sample
    from smcgen.core.chains import Chains as Chains
    from smcgen.core.conditional import conditional_smc as conditional_smc
    from smcgen.core.cost import Cost as Cost
    from smcgen.core.each import smc_each as smc_each
    from smcgen.core.feynman_kac import FeynmanKac as FeynmanKac
    from smcgen.core.finite import FiniteChain as FiniteChain
    from smcgen.core.gibbs import particle_gibbs as particle_gibbs
    from smcgen.core.markov import Markov as Markov
    from smcgen.core.result import SMCResult as SMCResult
    from smcgen.core.run import Progress as Progress
    from smcgen.core.smc import smc as smc
    from smcgen.core.status import SMCError as SMCError
    from smcgen.core.status import SMCInterrupted as SMCInterrupted
    from smcgen.core.status import Status as Status
    from smcgen.core.tree import Remembering as Remembering
    from smcgen.core.tree import remembered_paths as remembered_paths
    from smcgen.errors import SmcgenError as SmcgenError
    from smcgen.learn.bounds import EvidenceBounds as EvidenceBounds
    from smcgen.learn.bounds import evidence_bounds as evidence_bounds
    from smcgen.samplers.posterior import sample_posterior as sample_posterior
    from smcgen.text.potentials.algebra import where as where
    from smcgen.text.result import SteerResult as SteerResult
    from smcgen.text.steer import steer as steer

_NAMES = {
    "Chains": "smcgen.core.chains",
    "Cost": "smcgen.core.cost",
    "EvidenceBounds": "smcgen.learn.bounds",
    "FeynmanKac": "smcgen.core.feynman_kac",
    "FiniteChain": "smcgen.core.finite",
    "Markov": "smcgen.core.markov",
    "Progress": "smcgen.core.run",
    "Remembering": "smcgen.core.tree",
    "SMCError": "smcgen.core.status",
    "SMCInterrupted": "smcgen.core.status",
    "SMCResult": "smcgen.core.result",
    "SmcgenError": "smcgen.errors",
    "Status": "smcgen.core.status",
    "SteerResult": "smcgen.text.result",
    "backward_sample": "smcgen.core.backward",
    "conditional_smc": "smcgen.core.conditional",
    "evidence_bounds": "smcgen.learn.bounds",
    "fixed_lag": "smcgen.core.additive",
    "particle_gibbs": "smcgen.core.gibbs",
    "remembered_paths": "smcgen.core.tree",
    "sample_posterior": "smcgen.samplers.posterior",
    "smc": "smcgen.core.smc",
    "smc_each": "smcgen.core.each",
    "smooth_additive": "smcgen.core.additive",
    "steer": "smcgen.text.steer",
    "where": "smcgen.text.potentials.algebra",
}
__all__ = [
    "Chains",
    "Cost",
    "EvidenceBounds",
    "FeynmanKac",
    "FiniteChain",
    "Markov",
    "Progress",
    "Remembering",
    "SMCError",
    "SMCInterrupted",
    "SMCResult",
    "SmcgenError",
    "Status",
    "SteerResult",
    "__version__",
    "backward_sample",
    "conditional_smc",
    "evidence_bounds",
    "fixed_lag",
    "particle_gibbs",
    "remembered_paths",
    "sample_posterior",
    "smc",
    "smc_each",
    "smooth_additive",
    "steer",
    "where",
]
__getattr__, __dir__ = lazy(__name__, _NAMES)
