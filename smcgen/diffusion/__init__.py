"""Denoising as a state-space model: diffusion, flow and masked-discrete models, steered by any reward.

Start with `smcgen.diffusion.steer` (a model and a reward), or put a `DiffusionModel` together and run any
algorithm of smcgen on it. The parts are in `kernels`, `schedules`, `rewards`, `values`, `twists`,
`proposals`; `search` looks for the best sample instead of drawing from a law.
"""

from typing import TYPE_CHECKING

from smcgen._lazy import lazy

if TYPE_CHECKING:
    from smcgen.diffusion.base import Kernel as Kernel
    from smcgen.diffusion.kernels.gaussian import Gaussian as Gaussian
    from smcgen.diffusion.kernels.masked import Masked as Masked
    from smcgen.diffusion.kernels.mixture import GaussianMixture as GaussianMixture
    from smcgen.diffusion.masked.refresh import Refreshed as Refreshed
    from smcgen.diffusion.model import DiffusionModel as DiffusionModel
    from smcgen.diffusion.proposals.guided import Guided as Guided
    from smcgen.diffusion.proposals.unmasking import Unmasking as Unmasking
    from smcgen.diffusion.result import SteerResult as SteerResult
    from smcgen.diffusion.rewards.function import FunctionReward as FunctionReward
    from smcgen.diffusion.rewards.texts import Matches as Matches
    from smcgen.diffusion.rewards.texts import Perplexity as Perplexity
    from smcgen.diffusion.rewards.texts import TextReward as TextReward
    from smcgen.diffusion.schedules import Schedule as Schedule
    from smcgen.diffusion.schedules import ddpm as ddpm
    from smcgen.diffusion.schedules import edm as edm
    from smcgen.diffusion.schedules import rectified_flow as rectified_flow
    from smcgen.diffusion.schedules import variance_preserving as variance_preserving
    from smcgen.diffusion.searches.run import SearchResult as SearchResult
    from smcgen.diffusion.searches.run import search as search
    from smcgen.diffusion.steering import steer as steer
    from smcgen.diffusion.tempering import find_ladder as find_ladder
    from smcgen.diffusion.twists.potentials import Difference as Difference
    from smcgen.diffusion.twists.potentials import Immediate as Immediate
    from smcgen.diffusion.twists.potentials import Max as Max
    from smcgen.diffusion.twists.potentials import Sum as Sum
    from smcgen.diffusion.values.draws import ManyDraws as ManyDraws
    from smcgen.diffusion.values.learned import Learned as Learned
    from smcgen.diffusion.values.learned import experience as experience
    from smcgen.diffusion.values.prediction import AtPrediction as AtPrediction

_NAMES = {
    "AtPrediction": "smcgen.diffusion.values.prediction",
    "Difference": "smcgen.diffusion.twists.potentials",
    "DiffusionModel": "smcgen.diffusion.model",
    "FunctionReward": "smcgen.diffusion.rewards.function",
    "Gaussian": "smcgen.diffusion.kernels.gaussian",
    "GaussianMixture": "smcgen.diffusion.kernels.mixture",
    "Guided": "smcgen.diffusion.proposals.guided",
    "Immediate": "smcgen.diffusion.twists.potentials",
    "Kernel": "smcgen.diffusion.base",
    "Learned": "smcgen.diffusion.values.learned",
    "ManyDraws": "smcgen.diffusion.values.draws",
    "Masked": "smcgen.diffusion.kernels.masked",
    "Matches": "smcgen.diffusion.rewards.texts",
    "Max": "smcgen.diffusion.twists.potentials",
    "Perplexity": "smcgen.diffusion.rewards.texts",
    "Refreshed": "smcgen.diffusion.masked.refresh",
    "Schedule": "smcgen.diffusion.schedules",
    "SearchResult": "smcgen.diffusion.searches.run",
    "SteerResult": "smcgen.diffusion.result",
    "Sum": "smcgen.diffusion.twists.potentials",
    "TextReward": "smcgen.diffusion.rewards.texts",
    "Unmasking": "smcgen.diffusion.proposals.unmasking",
    "ddpm": "smcgen.diffusion.schedules",
    "edm": "smcgen.diffusion.schedules",
    "experience": "smcgen.diffusion.values.learned",
    "find_ladder": "smcgen.diffusion.tempering",
    "rectified_flow": "smcgen.diffusion.schedules",
    "search": "smcgen.diffusion.searches.run",
    "steer": "smcgen.diffusion.steering",
    "variance_preserving": "smcgen.diffusion.schedules",
}
__all__ = list(_NAMES)
__getattr__, __dir__ = lazy(__name__, _NAMES)
