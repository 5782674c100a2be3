"""State-space models written with NumPyro distributions, and their particle filters (extra `ssm`).

Write a `StateSpaceModel`, give it and the observations to a form, and the form to `smcgen.smc`:

    result = smcgen.smc(Bootstrap(model, y), key=0, n_particles=1000)

| form | when |
|---|---|
| `Bootstrap` | the start: nothing to choose, cheapest step |
| `Guided` | observations are precise or states are vectors: the default proposal looks at `y_t` first |
| `Auxiliary`, `fully_adapted` | the next observation is often a surprise: outliers, jumps |

All forms have the same target and the same likelihood estimate in mean; `result.log_evidence` is `log p(y_{0:T})`.
"""

from typing import TYPE_CHECKING

from smcgen._lazy import lazy

if TYPE_CHECKING:
    from smcgen.ssm._tree import static as static
    from smcgen.ssm.auxiliary import Auxiliary as Auxiliary
    from smcgen.ssm.auxiliary import fully_adapted as fully_adapted
    from smcgen.ssm.bootstrap import Bootstrap as Bootstrap
    from smcgen.ssm.filter import Filter as Filter
    from smcgen.ssm.filter import Observed as Observed
    from smcgen.ssm.guided import Guided as Guided
    from smcgen.ssm.inputs import Inputs as Inputs
    from smcgen.ssm.laws import Law as Law
    from smcgen.ssm.model import Simulation as Simulation
    from smcgen.ssm.model import StateSpaceModel as StateSpaceModel
    from smcgen.ssm.prediction import Forecast as Forecast
    from smcgen.ssm.prediction import forecast as forecast
    from smcgen.ssm.prediction import posterior_predictive as posterior_predictive
    from smcgen.ssm.proposals import LocallyOptimal as LocallyOptimal

_NAMES = {
    "Auxiliary": "smcgen.ssm.auxiliary",
    "Bootstrap": "smcgen.ssm.bootstrap",
    "Filter": "smcgen.ssm.filter",
    "Forecast": "smcgen.ssm.prediction",
    "Guided": "smcgen.ssm.guided",
    "Inputs": "smcgen.ssm.inputs",
    "Law": "smcgen.ssm.laws",
    "LocallyOptimal": "smcgen.ssm.proposals",
    "Observed": "smcgen.ssm.filter",
    "Simulation": "smcgen.ssm.model",
    "StateSpaceModel": "smcgen.ssm.model",
    "forecast": "smcgen.ssm.prediction",
    "fully_adapted": "smcgen.ssm.auxiliary",
    "posterior_predictive": "smcgen.ssm.prediction",
    "static": "smcgen.ssm._tree",
}
__all__ = [
    "Auxiliary",
    "Bootstrap",
    "Filter",
    "Forecast",
    "Guided",
    "Inputs",
    "Law",
    "LocallyOptimal",
    "Observed",
    "Simulation",
    "StateSpaceModel",
    "forecast",
    "fully_adapted",
    "posterior_predictive",
    "static",
]
__getattr__, __dir__ = lazy(__name__, _NAMES)
