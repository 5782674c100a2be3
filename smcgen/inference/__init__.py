"""Parameters of state-space models: their posterior by particle MCMC and SMC², their likelihood's maximum.

| call | when |
|---|---|
| `pmmh` | few parameters; any model that can be simulated |
| `particle_gibbs` | many parameters; densities with gradients |
| `smc2` | observations come in; the evidence is wanted; posteriors with several modes |
| `maximum_likelihood`, `score`, `information` | a point estimate and its error |

All take `build`, a function of parameters to a model (`lambda theta: Bootstrap(Model(**theta), y)`), and a
NumPyro prior for each parameter. IBIS, for models whose likelihood is known, is `smcgen.samplers.DataTempering`.
"""

from typing import TYPE_CHECKING

from smcgen._lazy import lazy

if TYPE_CHECKING:
    from smcgen.inference.estimated import FilterPath as FilterPath
    from smcgen.inference.gibbs import log_joint as log_joint
    from smcgen.inference.gibbs import particle_gibbs as particle_gibbs
    from smcgen.inference.likelihood import Fit as Fit
    from smcgen.inference.likelihood import Information as Information
    from smcgen.inference.likelihood import information as information
    from smcgen.inference.likelihood import maximum_likelihood as maximum_likelihood
    from smcgen.inference.likelihood import score as score
    from smcgen.inference.marginal import pmmh as pmmh
    from smcgen.inference.parameters import Parameters as Parameters
    from smcgen.inference.result import ParameterChains as ParameterChains
    from smcgen.inference.squared import SMC2 as SMC2
    from smcgen.inference.squared import SMC2Result as SMC2Result
    from smcgen.inference.squared import smc2 as smc2

_NAMES = {
    "FilterPath": "smcgen.inference.estimated",
    "Fit": "smcgen.inference.likelihood",
    "Information": "smcgen.inference.likelihood",
    "ParameterChains": "smcgen.inference.result",
    "Parameters": "smcgen.inference.parameters",
    "SMC2": "smcgen.inference.squared",
    "SMC2Result": "smcgen.inference.squared",
    "information": "smcgen.inference.likelihood",
    "log_joint": "smcgen.inference.gibbs",
    "maximum_likelihood": "smcgen.inference.likelihood",
    "particle_gibbs": "smcgen.inference.gibbs",
    "pmmh": "smcgen.inference.marginal",
    "score": "smcgen.inference.likelihood",
    "smc2": "smcgen.inference.squared",
}
__all__ = list(_NAMES)
__getattr__, __dir__ = lazy(__name__, _NAMES)
