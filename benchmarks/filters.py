"""Bootstrap filter on stochastic volatility, T = 1000: smcgen, particles, cuthbert and JAX loops as people write them.

All sides filter the same series with as many particles, resample systematically when the ESS falls below one half, and
give log Z-hat. "step loop" is a Python loop over one compiled step with blackjax's resampling, as its documentation
writes SMC loops; "scan" is the plain filter in one `lax.scan` that resamples at every step, in the style of dynamax.
Seconds are those of a run once compiled; the first call is told apart. The mean of log Z-hat over the runs shows that
all compute the same.

python benchmarks/filters.py [--full] [--json]

`--full` adds n = 10^5 and measures more often.
"""

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import blackjax.smc.resampling
import cuthbert
import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import particles
from cuthbert.smc import particle_filter
from cuthbertlib.resampling import ess_decorator, systematic
from jax.scipy.stats import norm
from particles import distributions
from particles import state_space_models as particles_ssm

import smcgen
from benchmarks._report import Report, alternating, arguments, seconds
from smcgen.ssm import Bootstrap, StateSpaceModel

MU, RHO, SIGMA, TIMES = -1.0, 0.95, 0.3, 1000
STATIONARY = SIGMA / (1 - RHO**2) ** 0.5


class Volatility(StateSpaceModel):
    """`x_t ~ N(mu + rho (x_{t-1} - mu), sigma^2)`, `y_t ~ N(0, exp(x_t))`."""

    def initial(self):
        return dist.Normal(MU, STATIONARY)

    def transition(self, t, x_prev):
        return dist.Normal(MU + RHO * (x_prev - MU), SIGMA)

    def observation(self, t, x):
        return dist.Normal(0.0, jnp.exp(x / 2))


Y = np.asarray(Volatility().simulate(0, TIMES - 1).observations)

# ---- the model again, for the others ----------------------------------------------------------------------------


def first(key: Any, n: int | None = None) -> Any:
    """n states of time 0, or one."""
    return MU + STATIONARY * jax.random.normal(key, () if n is None else (n,))


def moved(key: Any, x: Any) -> Any:
    """States of the next time."""
    return MU + RHO * (x - MU) + SIGMA * jax.random.normal(key, jnp.shape(x))


def log_g(y: Any, x: Any) -> Any:
    """Log-likelihood."""
    return norm.logpdf(y, 0.0, jnp.exp(x / 2))


class ParticlesModel(particles_ssm.StateSpaceModel):
    """For particles, in NumPy."""

    def PX0(self):
        return distributions.Normal(loc=MU, scale=STATIONARY)

    def PX(self, t, xp):
        return distributions.Normal(loc=MU + RHO * (xp - MU), scale=SIGMA)

    def PY(self, t, xp, x):
        return distributions.Normal(loc=0.0, scale=np.exp(0.5 * x))


# ---- sides: from a seed to log Z-hat ------------------------------------------------------------------------------


def ours(n: int) -> Callable[[int], float]:
    """smcgen."""
    filter = Bootstrap(Volatility(), Y)
    return lambda seed: float(smcgen.smc(filter, seed, n, keep="summary").log_evidence)


def by_particles(n: int) -> Callable[[int], float]:
    """particles: NumPy, and numba in the resampling."""

    def run(seed: int) -> float:
        np.random.seed(seed)  # noqa: NPY002  (it draws from the global generator)
        model = particles_ssm.Bootstrap(ssm=ParticlesModel(), data=Y)
        filter = particles.SMC(fk=model, N=n, resampling="systematic", ESSrmin=0.5)
        filter.run()
        return float(filter.logLt)

    return run


def by_cuthbert(n: int) -> Callable[[int], float]:
    """cuthbert: one scan, which keeps all states. The first state is stationary, so all y may come after it."""
    built = particle_filter.build_filter(
        first,
        lambda key, x, y: moved(key, x),
        lambda x_prev, x, y: log_g(y, x),
        n,
        ess_decorator(systematic.resampling, 0.5),
    )

    @jax.jit
    def run(key: Any, y: Any) -> Any:
        start, steps = jax.random.split(key)
        state = built.init_prepare(key=start)
        return cuthbert.filter(built, y, state, key=steps).log_normalizing_constant[-1]

    return lambda seed: float(run(jax.random.key(seed), jnp.asarray(Y)))


def by_step_loop(n: int) -> Callable[[int], float]:
    """A Python loop over one compiled step, with blackjax's resampling."""

    @jax.jit
    def step(key: Any, x: Any, log_w: Any, y: Any) -> Any:
        resample, move = jax.random.split(key)
        w = jax.nn.softmax(log_w)
        due = 1 / jnp.sum(w**2) < 0.5 * n
        index = blackjax.smc.resampling.systematic(resample, w, n)
        x = jnp.where(due, x[index], x)
        log_w = jnp.where(due, -jnp.log(n), jnp.log(w))
        x = moved(move, x)
        log_w = log_w + log_g(y, x)
        increment = jax.nn.logsumexp(log_w)
        return x, log_w - increment, increment

    def run(seed: int) -> float:
        key = jax.random.key(seed)
        x = first(key, n)
        log_w = log_g(Y[0], x)
        log_z = jax.nn.logsumexp(log_w) - jnp.log(n)
        for y in Y[1:]:
            key, now = jax.random.split(key)
            x, log_w, increment = step(now, x, log_w, y)
            log_z = log_z + increment
        return float(log_z)

    return run


def by_scan(n: int) -> Callable[[int], float]:
    """One `lax.scan`, resampling at every step by inversion."""

    @jax.jit
    def run(key: Any, y: Any) -> Any:
        def step(x: Any, inputs: Any) -> Any:
            key, y = inputs
            offset, move = jax.random.split(key)
            log_w = log_g(y, x)
            edges = jnp.cumsum(jax.nn.softmax(log_w))
            teeth = (jnp.arange(n) + jax.random.uniform(offset)) / n
            x = x[jnp.clip(jnp.searchsorted(edges, teeth), 0, n - 1)]
            return moved(move, x), jax.nn.logsumexp(log_w) - jnp.log(n)

        start, steps = jax.random.split(key)
        keys = jax.random.split(steps, len(y))
        return jnp.sum(jax.lax.scan(step, first(start, n), (keys, y))[1])

    return lambda seed: float(run(jax.random.key(seed), jnp.asarray(Y)))


SIDES = {
    "smcgen": ours,
    "particles": by_particles,
    "cuthbert": by_cuthbert,
    "step loop": by_step_loop,
    "scan": by_scan,
}


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    sizes, repeats = ((100, 1000, 10_000, 100_000), 7) if options.full else ((100, 1000, 10_000), 3)
    columns = ("side, n", "ms a run", "over smcgen", "first call, s", "log Z-hat")
    report = Report(f"Stochastic volatility, T = {TIMES}, median of {repeats} runs", columns)
    for n in sizes:
        runs = {name: make(n) for name, make in SIDES.items()}
        found: dict[str, list[float]] = {name: [] for name in runs}

        def once(name: str, runs: Any = runs, found: Any = found) -> float:
            return seconds(lambda: found[name].append(runs[name](len(found[name]))))

        compiling = {name: once(name) for name in runs}
        times = alternating([partial(once, name) for name in runs], repeats)
        median = dict(zip(runs, np.median(times, axis=0), strict=True))
        for name in runs:
            ratio = median[name] / median["smcgen"]
            beside = compiling[name] - median[name], f"{np.mean(found[name]):.2f}"
            report.row(f"{name}, {n}", 1e3 * median[name], ratio, *beside)
        fastest = min(value for name, value in median.items() if name != "smcgen")
        report.aim(f"smcgen_over_fastest_peer_n_{n}", median["smcgen"] / fastest, 1.0)
    report.show(options.json)


if __name__ == "__main__":
    main()
