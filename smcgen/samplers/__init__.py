"""SMC samplers over whole models: `sample_posterior` for NumPyro models, `sample` for any path of targets.

| part | members |
|---|---|
| paths of targets | `Tempering`, `from_density`, `DataTempering`, `numpyro_path`, or your own `Path` |
| ladders | positions, `Adaptive` by ESS or conditional ESS |
| kernels | `RandomWalk`, `MALA`, `HMC`, `NUTS`, any `Algorithm` of blackjax, a function, or your own `Kernel` |
| moves | a number, or `Until` the particles have forgotten where they began |
| samplers | `SMCSampler` (standard, waste-free), `AdaptiveSampler`, `PersistentSampler`: Feynman-Kac models |
"""

from smcgen.samplers.base import Kernel as Kernel
from smcgen.samplers.base import Moved as Moved
from smcgen.samplers.base import Path as Path
from smcgen.samplers.base import Point as Point
from smcgen.samplers.base import Target as Target
from smcgen.samplers.kernels import HMC as HMC
from smcgen.samplers.kernels import KERNELS as KERNELS
from smcgen.samplers.kernels import MALA as MALA
from smcgen.samplers.kernels import NUTS as NUTS
from smcgen.samplers.kernels import Algorithm as Algorithm
from smcgen.samplers.kernels import Custom as Custom
from smcgen.samplers.kernels import RandomWalk as RandomWalk
from smcgen.samplers.ladders import Adaptive as Adaptive
from smcgen.samplers.ladders import Given as Given
from smcgen.samplers.moves import Until as Until
from smcgen.samplers.paths import DataTempering as DataTempering
from smcgen.samplers.paths import Tempering as Tempering
from smcgen.samplers.paths import from_density as from_density
from smcgen.samplers.paths.numpyro import NumPyroPath as NumPyroPath
from smcgen.samplers.paths.numpyro import numpyro_path as numpyro_path
from smcgen.samplers.persistent import PersistentSampler as PersistentSampler
from smcgen.samplers.posterior import sample_posterior as sample_posterior
from smcgen.samplers.result import SamplerResult as SamplerResult
from smcgen.samplers.run import sample as sample
from smcgen.samplers.sampler import AdaptiveSampler as AdaptiveSampler
from smcgen.samplers.sampler import SMCSampler as SMCSampler
