"""Posterior and evidence of a NumPyro model by an SMC sampler, and a target with two modes.

python examples/posterior.py
"""

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.scipy.stats import norm

import smcgen
from smcgen.samplers import from_density, sample


def regression(x, y=None):
    intercept = numpyro.sample("intercept", dist.Normal(0.0, 2.0))
    slope = numpyro.sample("slope", dist.Normal(0.0, 2.0))
    noise = numpyro.sample("noise", dist.HalfNormal(1.0))
    with numpyro.plate("data", len(x)):
        numpyro.sample("y", dist.Normal(intercept + slope * x, noise), obs=y)


x = jnp.linspace(-1, 1, 25)
y = 0.5 - 1.2 * x + 0.3 * jax.random.normal(jax.random.key(1), x.shape)
data = smcgen.sample_posterior(regression, x, y=y, key=0, n_particles=500)
print(data.posterior[["intercept", "slope", "noise"]].mean())
print(f"log evidence {data.attrs['log_evidence']:.2f} +- {data.attrs['log_evidence_stderr']:.2f}")
print("temperatures:", [round(a, 3) for a in data.attrs["ladder"]])


def two_modes(x):
    """1/4 N(-4, .5^2) + 3/4 N(4, .5^2): one chain would stay in one of them."""
    parts = jnp.stack([norm.logpdf(x, -4.0, 0.5), norm.logpdf(x, 4.0, 0.5)])
    return jax.nn.logsumexp(parts + jnp.log(jnp.array([0.25, 0.75])))


run = sample(from_density(two_modes, 0.0, 5.0), key=0, n_particles=1000, kernel="random_walk")
print(run)
print("weight of the right mode:", run.expectation(lambda x: 1.0 * (x > 0)))
