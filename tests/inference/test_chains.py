"""PMMH and particle Gibbs against the posterior by quadrature: final draws of many short chains, by chi-square."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from smcgen.errors import InvalidArgument, ModelError
from smcgen.inference import Parameters, log_joint, particle_gibbs, pmmh, smc2
from smcgen.inference.adapted import windows
from smcgen.samplers import HMC, RandomWalk
from tests.core.models import chain
from tests.inference.models import Y, bins, build
from tests.laws import assert_law, assert_unbiased
from tests.samplers.models import NUMPYRO

PRIOR = {"a": dist.Uniform(-1.0, 1.0)}
CHAINS = 1000


def follows_posterior(chains):
    edges, law = bins(12)
    last = np.asarray(chains.samples["a"])[:, -1]
    assert_law(np.histogram(last, edges)[0], law)


@pytest.mark.slow
def test_pmmh_draws_from_the_posterior():
    """With eight particles, whose estimates are rough: the law does not depend on their number."""
    chains = pmmh(build, PRIOR, 1, 1, 8, n_chains=CHAINS, n_warmup=120)
    follows_posterior(chains)
    assert 0.1 < float(chains.acceptance.mean()) < 0.9


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kernel", "rejuvenate"),
    [("hmc", "ancestor"), (RandomWalk(step_size=1.5), "backward"), (NUMPYRO, "ancestor")],
)
def test_particle_gibbs_draws_from_the_posterior(kernel, rejuvenate):
    options = {"n_chains": CHAINS, "n_warmup": 40, "kernel": kernel, "rejuvenate": rejuvenate}
    chains = particle_gibbs(build, PRIOR, 2, 1, 4, **options)
    follows_posterior(chains)
    assert chains.paths.shape == (CHAINS, 1, len(Y))
    # the states too: E[x_t] given y, by the law of total expectation over a grid of the coefficient
    exact = smoothed_mean()
    for t in (0, len(Y) - 1):
        assert_unbiased(np.asarray(chains.paths)[:, 0, t], exact[t], f"x_{t}")


def smoothed_mean():
    from tests.inference.models import GRID, POSTERIOR, Q, R

    total = np.zeros(len(Y))
    for a, p in zip(GRID[::20], POSTERIOR[::20] / POSTERIOR[::20].sum(), strict=True):
        precision = np.diag(np.full(len(Y), 1 / R**2))
        precision[0, 0] += 1
        for t in range(1, len(Y)):
            precision[t, t] += 1 / Q**2
            precision[t - 1, t - 1] += a * a / Q**2
            precision[t - 1, t] -= a / Q**2
            precision[t, t - 1] -= a / Q**2
        total += p * np.linalg.solve(precision, Y / R**2)
    return total


@pytest.mark.slow
def test_what_comes_back():
    arviz = pytest.importorskip("arviz")
    chains = pmmh(build, PRIOR, 1, 40, 32, n_chains=3, n_warmup=30, thin=2, initial={"a": 0.3})
    data = chains.to_arviz()
    assert data.posterior["a"].shape == (3, 40)
    assert set(data.sample_stats) == {"log_likelihood_estimate", "acceptance_rate"}
    assert float(arviz.rhat(data)["a"]) < 1.5
    assert "3 chains of 40" in repr(chains)
    again = pmmh(build, PRIOR, 1, 40, 32, n_chains=3, n_warmup=30, thin=2, initial={"a": 0.3})
    np.testing.assert_array_equal(chains.samples["a"], again.samples["a"])


@pytest.mark.slow
def test_priors_and_their_coordinates():
    """`log p(u)` is the density of what `draw` gives: its integral over u is 1."""
    known = Parameters({"a": dist.Uniform(-1.0, 1.0), "s": dist.HalfNormal(2.0)})
    u = np.linspace(-12, 12, 301)
    each = lambda a, s: known.log_prior({"a": a, "s": s})
    density = np.exp(np.asarray(jax.vmap(lambda a: jax.vmap(lambda s: each(a, s))(u))(u)))
    assert abs(density.sum() * (u[1] - u[0]) ** 2 - 1) < 1e-3
    theta = {"a": 0.25, "s": 1.5}
    back = known.constrained(known.unconstrained(theta))
    np.testing.assert_allclose([back["a"], back["s"]], [0.25, 1.5], rtol=1e-5)


@pytest.mark.slow
def test_log_joint_is_the_density_of_path_and_data():
    from jax.scipy.stats import norm

    x = jnp.array([0.1, -0.4, 0.8, 1.0, 0.2, 0.0])
    expected = norm.logpdf(x[0]) + jnp.sum(norm.logpdf(x[1:], 0.5 * x[:-1], 0.8))
    expected += jnp.sum(norm.logpdf(jnp.asarray(Y), x, 0.6))
    np.testing.assert_allclose(log_joint(build({"a": 0.5}), x), expected, rtol=1e-5)


def test_windows_add_up():
    for n in (0, 1, 24, 25, 74, 75, 500, 1000):
        assert sum(windows(n)) == n
    assert windows(500) == [25, 50, 100, 325]


def test_bad_input(unchecked):
    with pytest.raises(InvalidArgument, match="n_samples=0"):
        pmmh(build, PRIOR, 0, 0)
    with pytest.raises(InvalidArgument, match=r"prior\['a'\]"):
        pmmh(build, {"a": dist.Poisson(3.0)}, 0)
    with pytest.raises(InvalidArgument, match="prior"):
        pmmh(build, {}, 0)
    with pytest.raises(InvalidArgument, match="theta"):
        pmmh(build, PRIOR, 0, initial={"b": 1.0})
    with pytest.raises(InvalidArgument, match=r"theta\['a'\]=1.5"):
        pmmh(build, PRIOR, 0, initial={"a": 1.5})
    for kernel in (HMC(), "hmc", lambda key, x, at: x, 3):  # gradients, or an estimate made again
        with pytest.raises(InvalidArgument, match="kernel="):
            pmmh(build, PRIOR, 0, kernel=kernel)
        with pytest.raises(InvalidArgument, match="kernel="):
            smc2(build, PRIOR, 0, kernel=kernel)
    with pytest.raises(InvalidArgument, match="kernel=<function"):
        particle_gibbs(build, PRIOR, 0, kernel=lambda key, x, at: x)
    with pytest.raises(InvalidArgument, match="build"):
        particle_gibbs(None, PRIOR, 0)
    with pytest.raises(InvalidArgument, match="kernel='gradient'"):
        particle_gibbs(build, PRIOR, 0, kernel="gradient")
    with pytest.raises(ModelError, match="init_pinned"):
        particle_gibbs(lambda theta: chain(), PRIOR, 0)
