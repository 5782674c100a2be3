"""Stochastic volatility: filter, forecast, and a plot if matplotlib is there.

python examples/stochastic_volatility.py [figure.png]
"""

import sys

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import smcgen
from smcgen.ssm import Bootstrap, StateSpaceModel, forecast


class StochasticVolatility(StateSpaceModel):
    mu: float = -1.0
    rho: float = 0.95
    sigma: float = 0.3

    def initial(self):
        return dist.Normal(self.mu, self.sigma / jnp.sqrt(1 - self.rho**2))

    def transition(self, t, x_prev):
        return dist.Normal(self.mu + self.rho * (x_prev - self.mu), self.sigma)

    def observation(self, t, x):
        return dist.Normal(0, jnp.exp(x / 2))


model = StochasticVolatility()
truth, returns = model.simulate(1, 200)
filter = Bootstrap(model, returns)
result = smcgen.smc(filter, key=0, n_particles=2000, keep="particles")
print(result)
means = filter.filtered(result)
ahead = forecast(filter, result, key=2, horizon=20)
low, high = ahead.quantile(0.05), ahead.quantile(0.95)
print("correlation with the truth:", float(np.corrcoef(means, truth)[0, 1]))
print("90 % interval of the next return:", float(low[0]), float(high[0]))

if len(sys.argv) > 1:
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(2, sharex=True)
    above.plot(truth, label="log-volatility")
    above.plot(means, label="filtered mean")
    above.legend()
    below.plot(returns, label="returns")
    below.fill_between(np.arange(201, 221), low, high, alpha=0.3, label="forecast, 90 %")
    below.legend()
    figure.savefig(sys.argv[1])
