"""SMC² against the evidence and the posterior by quadrature: unbiased at few parameters and few particles."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import smcgen
from smcgen.core.arguments import settings_of
from smcgen.errors import InvalidArgument
from smcgen.inference import FilterPath, Parameters, smc2
from smcgen.samplers import RandomWalk, SMCSampler
from smcgen.samplers.ladders import Given
from tests.inference.models import LOG_EVIDENCE, MEAN, Y, build, log_likelihood
from tests.laws import assert_unbiased

PRIOR = {"a": dist.Uniform(-1.0, 1.0)}
FIXED = RandomWalk(covariance=np.ones(1, np.float32), acceptance=None, step_size=2.0)


def path(n=6):
    return FilterPath(Parameters(PRIOR), build, settings_of(n, "systematic", 0.5, "summary"))


@pytest.mark.slow
def test_a_filter_that_stops_and_goes_on():
    """Likelihoods at each number of observations are unbiased, whether read in one go or in two."""
    p = path()
    u = {"a": jnp.float32(0.4)}
    a = float(np.asarray(p.parameters.constrained(u)["a"]))

    def both(key):
        k0, k1, k2 = jax.random.split(key, 3)
        whole = p.evaluate(k0, u, jnp.int32(len(Y)))
        point = p.evaluate(k1, u, jnp.int32(0))
        assert_zero = point.log_likelihood
        first, gain = p.advance(k2, point, jnp.int32(0), jnp.int32(2))
        last, more = p.advance(k2, first, jnp.int32(2), jnp.int32(len(Y)))
        return assert_zero, whole.log_likelihood, last.log_likelihood, gain + more

    zero, whole, parts, gains = jax.jit(jax.vmap(both))(jax.random.split(jax.random.key(0), 4000))
    assert not np.asarray(zero).any()
    np.testing.assert_allclose(parts, gains, rtol=1e-5)
    for found in (whole, parts):
        assert_unbiased(np.exp(np.asarray(found, np.float64) - log_likelihood(a)), 1.0)


@pytest.mark.slow
def test_evidence_is_unbiased():
    """The traced sampler along the same path, with a fixed kernel: many runs at once."""
    ladder = Given(jnp.arange(len(Y) + 1))
    sampler = SMCSampler(path(), FIXED, ladder, 2, only_resampled=True)

    def one(key):
        result = smcgen.smc(sampler, key, 8, keep="summary")
        x = jax.vmap(sampler.path.parameters.constrained)(result.particles.points.x)["a"][:, 0]
        return result.log_evidence, jnp.sum(result.weights * x)

    log_z, mean = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(1), 3000))
    z = np.exp(np.asarray(log_z, np.float64) - LOG_EVIDENCE)
    assert_unbiased(z, 1.0)
    assert_unbiased(z * (np.asarray(mean, np.float64) - MEAN), 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("grow_below", [0.0, 0.999])
def test_smc2_with_filters_that_grow(grow_below):
    """Growing at every move is as deterministic as never growing: unbiased too."""
    z, gap, sizes = [], [], set()
    for seed in range(80):
        options = {"kernel": FIXED, "moves": 1, "grow_below": grow_below, "max_particles": 16}
        result = smc2(build, PRIOR, seed, 12, 4, ess_threshold=0.9, **options)
        z.append(np.exp(float(result.log_evidence) - LOG_EVIDENCE))
        gap.append(z[-1] * (float(result.mean()["a"]) - MEAN))
        sizes.add(int(result.n_particles[-1]))
    assert_unbiased(np.array(z), 1.0)
    assert_unbiased(np.array(gap), 0.0)
    assert sizes == ({4} if grow_below == 0 else {16})


@pytest.mark.slow
def test_the_tuned_sampler():
    result = smc2(build, PRIOR, 0, 400, 32)
    assert abs(float(result.log_evidence) - LOG_EVIDENCE) < 0.3
    assert abs(result.mean()["a"] - MEAN) < 0.1
    assert result.predictive.shape == (len(Y),)
    np.testing.assert_allclose(np.sum(result.predictive), result.log_evidence, rtol=1e-5)
    assert "filters of 32 to" in repr(result)


def test_bad_input(unchecked):
    with pytest.raises(InvalidArgument, match="grow_below=1"):
        smc2(build, PRIOR, 0, grow_below=1)
    with pytest.raises(InvalidArgument, match="n_parameters=0"):
        smc2(build, PRIOR, 0, 0)
