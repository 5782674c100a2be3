"""Values: what the reward of the finished sample will probably be, seen from the middle.

| value | v_t | calls of the reward, each particle |
|---|---|---|
| `AtPrediction` | r(E[data given x_t]): the reward of the predicted data | 1 |
| `ManyDraws(k)` | 1/lambda log mean over k draws of the data given x_t of exp(lambda r) | k |
| `Learned` | a function of x_t that was fitted to runs | 0 |
"""

from smcgen.diffusion.base import Value as Value
from smcgen.diffusion.values.draws import ManyDraws as ManyDraws
from smcgen.diffusion.values.learned import Learned as Learned
from smcgen.diffusion.values.learned import experience as experience
from smcgen.diffusion.values.prediction import AtPrediction as AtPrediction
