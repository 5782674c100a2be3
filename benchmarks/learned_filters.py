"""The variance of log Z-hat for a second of computing: bootstrap, locally optimal, learned proposal, learned twist.

Stochastic volatility and a sharply observed nonlinear growth, from `smcgen.ssm`. One number decides between filters:
variance times seconds, since halving the variance takes twice the particles. The seconds are those of a run once
compiled; learning is told apart.

python benchmarks/learned_filters.py [--full] [--json]
"""

import sys
import time
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
from flax import linen

import smcgen
from benchmarks._report import Report, alternating, arguments, median_and_spread, seconds
from smcgen.learn import GaussianProposal, Nested, controlled_smc, fit
from smcgen.ssm import Bootstrap, Guided, StateSpaceModel


class Volatility(StateSpaceModel):
    def initial(self):
        return dist.Normal(0.0, 1.0)

    def transition(self, t, x_prev):
        return dist.Normal(0.95 * x_prev, 0.3)

    def observation(self, t, x):
        return dist.Normal(0.0, jnp.exp(x / 2))


class Growth(StateSpaceModel):
    def initial(self):
        return dist.Normal(0.0, 1.0)

    def transition(self, t, x_prev):
        return dist.Normal(0.5 * x_prev + 4 * x_prev / (1 + x_prev**2), 1.0)

    def observation(self, t, x):
        return dist.Normal(x, 0.1)


class Net(linen.Module):
    """Says 0 to begin with: the model's own law."""

    @linen.compact
    def __call__(self, x):
        hidden = linen.tanh(linen.Dense(16)(linen.tanh(linen.Dense(16)(x))))
        return linen.Dense(2, kernel_init=linen.initializers.zeros)(hidden)


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    n, runs, repeats, steps, length = (
        (256, 256, 5, 2000, 100) if options.full else (64, 64, 3, 500, 50)
    )
    columns = ("model", "filter", "variance", "seconds a run", "variance x seconds", "learning, s")
    report = Report(f"log Z-hat, n = {n}, T = {length}, {runs} runs", columns)
    for model in (Volatility(), Growth()):
        filters, learning = learn(model, length, n, steps)
        sides, keys = [], jax.random.split(jax.random.key(1), runs)
        variances = {}
        for name, filter in filters.items():
            one = lambda key, filter=filter: smcgen.smc(filter, key, n, keep="summary").log_evidence
            many = jax.jit(jax.vmap(one))
            variances[name] = float(np.var(np.asarray(many(keys), np.float64), ddof=1))
            sides.append(partial(seconds, partial(wait, many, keys)))
        times = alternating(sides, repeats) / runs
        cost = {name: variances[name] * np.median(times[:, i]) for i, name in enumerate(filters)}
        for i, name in enumerate(filters):
            row = (variances[name], median_and_spread(1e3 * times[:, i]) + " ms", cost[name])
            report.row(type(model).__name__, name, *row, learning.get(name, 0.0))
        label = type(model).__name__.lower()
        best = min(cost["learned twist"], cost["learned proposal"])
        report.aim(f"{label}_learned_over_bootstrap", best / cost["bootstrap"], 1.0)
    report.show(options.json)


def wait(many, keys) -> None:
    """Run to the end."""
    many(keys).block_until_ready()


def learn(model: StateSpaceModel, length: int, n: int, steps: int) -> tuple[dict, dict]:
    """Filters by name, and what learning them took."""
    _, y = model.simulate(0, length)
    net, learning = Net(), {}
    build = lambda params: Guided(model, y, GaussianProposal(net, params))
    began = time.perf_counter()
    rate = optax.adam(optax.cosine_decay_schedule(1e-2, steps))
    learned = fit(build, GaussianProposal.params_for(net, 1, 1), 0, steps=steps, optimiser=rate)
    learning["learned proposal"] = time.perf_counter() - began
    began = time.perf_counter()
    twisted = controlled_smc(Bootstrap(model, y), 0, n)
    learning["learned twist"] = time.perf_counter() - began
    filters = {
        "bootstrap": Bootstrap(model, y),
        "locally optimal": Guided(model, y),
        "nested, m = 8": Nested(Bootstrap(model, y), 8),
        "learned proposal": build(learned.params),
        "learned twist": twisted.model,
    }
    return filters, learning


if __name__ == "__main__":
    main()
