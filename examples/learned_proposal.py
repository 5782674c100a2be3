"""Three ways to a better particle filter of one model: bootstrap, a learned proposal, a learned twist.

python examples/learned_proposal.py
"""

import jax
import numpyro.distributions as dist
from flax import linen

import smcgen
from smcgen.learn import GaussianProposal, controlled_smc, fit
from smcgen.ssm import Bootstrap, Guided, StateSpaceModel


class Growth(StateSpaceModel):
    """A nonlinear growth that is seen sharply: the bootstrap filter proposes mostly in vain."""

    noise: float

    def initial(self):
        return dist.Normal(0.0, 1.0)

    def transition(self, t, x_prev):
        return dist.Normal(0.5 * x_prev + 4 * x_prev / (1 + x_prev**2), 1.0)

    def observation(self, t, x):
        return dist.Normal(x, self.noise)


class Net(linen.Module):
    @linen.compact
    def __call__(self, x):
        return linen.Dense(2)(linen.tanh(linen.Dense(16)(linen.tanh(linen.Dense(16)(x)))))


model = Growth(noise=0.1)
_, y = model.simulate(key=0, num_steps=20)

net, params = Net(), GaussianProposal.params_for(Net(), dim=1, seen=1)
learned = fit(lambda p: Guided(model, y, GaussianProposal(net, p)), params, key=0, steps=300)
print("proposal:", learned)
controlled = controlled_smc(Bootstrap(model, y), key=0, n_particles=64)
print("twist: log evidence by iteration", controlled.log_evidences)

for name, filter in (
    ("bootstrap", Bootstrap(model, y)),
    ("learned proposal", Guided(model, y, GaussianProposal(net, learned.params))),
    ("learned twist", controlled.model),
):
    one = jax.vmap(lambda key, filter=filter: smcgen.smc(filter, key, 64).log_evidence)
    found = jax.jit(one)(jax.random.split(jax.random.key(1), 100))
    print(f"{name:17} log Z-hat {found.mean():8.3f}, standard deviation {found.std():.3f}")
