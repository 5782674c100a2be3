"""When to resample: at which steps, and that the estimates stay what they are."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen.core.resampling import SCHEMES, Adaptive
from smcgen.core.resampling.when import resampler
from smcgen.errors import InvalidArgument, UnknownName
from smcgen.resampling import AtSteps, Every
from tests.core.models import Host, chain, gaussian
from tests.laws import assert_unbiased


def steps(resampling, threshold=1.0):
    """At which of the steps 1..100 a population of very uneven weights is resampled."""
    t = jnp.arange(1, 101)
    due = jax.vmap(lambda t: resampler(resampling, threshold).due(t, jnp.float32(1.5), 10))(t)
    return np.asarray(t)[np.asarray(due)].tolist()


@pytest.mark.slow
def test_steps():
    assert steps("ssp") == list(range(1, 101))
    assert steps("ssp", 0.0) == []
    assert steps(AtSteps((5, 10))) == [5, 10]
    assert steps(AtSteps([])) == []
    assert steps(Every(20)) == [20, 40, 60, 80, 100]
    assert steps(Every(20, start=10, end=70)) == [10, 30, 50, 70]
    assert steps(Every(20, start=0, end=19)) == []
    assert steps(Every(30), threshold=0.2) == [30, 60, 90], "ESS is 1.5 of 10"
    assert steps(Every(30), threshold=0.1) == []


@pytest.mark.slow
def test_a_schedule_is_a_scheme():
    """Wherever a scheme is accepted; with the scheme's own law."""
    log_weights, key = jnp.array([0.3, -1.0, 0.2]), jax.random.key(0)
    assert Every(3, "ssp").scheme is SCHEMES["ssp"]
    np.testing.assert_array_equal(
        Every(3, "ssp")(key, log_weights), SCHEMES["ssp"](key, log_weights)
    )
    assert resampler(AtSteps((3,), "ssp"), 0.5) == Adaptive(
        SCHEMES["ssp"], 0.5, AtSteps((3,), SCHEMES["ssp"])
    )
    assert hash(Every(2)) == hash(Every(2)), "equal settings share a compiled program"


def test_errors(unchecked):
    with pytest.raises(InvalidArgument, match="k=0"):
        Every(0)
    with pytest.raises(UnknownName, match="'sistematic'"):
        AtSteps((1,), "sistematic")


@pytest.mark.parametrize("driver", ["traced", "host"])
def test_a_run_resamples_there(driver):
    model = gaussian()
    model = Host(model) if driver == "host" else model
    run = smcgen.smc(model, 0, 8, resampling=AtSteps((2, 3)), ess_threshold=1.0)
    np.testing.assert_array_equal(run.resampled, [False, True, True, False])


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [1.0, 0.7])
def test_unbiased(threshold):
    model = chain(0)

    @jax.vmap
    def z_hat(key):
        when = Every(2, start=1)
        run = smcgen.smc(model, key, 3, resampling=when, ess_threshold=threshold)
        return jnp.exp(run.log_evidence)

    samples = jax.jit(z_hat)(jax.random.split(jax.random.key(0), 20_000))
    assert_unbiased(samples, model.exact())
