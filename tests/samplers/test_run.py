"""`sample`: two passes, many runs, errors, checkpoints."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm
from jax.tree_util import Partial

import smcgen
from smcgen.core.status import SMCError, SMCInterrupted
from smcgen.errors import InvalidArgument, UnknownName
from smcgen.samplers import Adaptive, Tempering, from_density, sample
from tests.laws import assert_unbiased
from tests.samplers import models
from tests.samplers.models import LADDER, LINEAR, SIGMA, X3, Y3
from tests.samplers.test_paths import DATA

OPTIONS = {"kernel": "random_walk", "moves": 2}


@pytest.mark.slow
def test_twenty_dimensions_with_what_a_pilot_found():
    """HMC, moves until the start is forgotten: 60 runs replay the pilot and are unbiased."""
    y, s, d = 1.5, 0.5, 20
    path = models.linear(np.eye(d), np.full(d, y), s)
    run = sample(path, 0, 100, moves="auto", n_runs=60)
    log_z, mean, _ = models.exact_linear(np.eye(d), np.full(d, y), s)
    z = np.exp(np.asarray(run.log_evidence, np.float64) - log_z)
    assert_unbiased(z, 1.0, "Z")
    by_run = np.asarray(run.expectation(), np.float64).mean(1)
    assert_unbiased(z * (by_run - mean[0]), 0.0, "mean")
    ladder = np.asarray(run.ladder)
    np.testing.assert_array_equal(ladder, np.broadcast_to(ladder[:, :1], ladder.shape))
    np.testing.assert_array_equal(run.moves, np.broadcast_to(run.moves[:, :1], ladder.shape))
    assert run.particles.shape == (60, 100, d)


@pytest.mark.slow
def test_waste_free_knows_its_error():
    """The mean of the estimated variances is that of log Z-hat over runs."""
    run = sample(LINEAR, 2, 160, kernel="random_walk", waste_free=40, ladder=LADDER, n_runs=400)
    log_z, _, _ = models.exact_linear(X3, Y3, SIGMA)
    log_ratio = np.asarray(run.log_evidence, np.float64) - log_z
    assert_unbiased(np.exp(log_ratio), 1.0, "Z")
    ratio = np.mean(run.log_evidence_stderr**2) / log_ratio.var()
    assert 0.6 < ratio < 1.6
    assert run.log_weights.shape == (400, 160)


@pytest.mark.slow
def test_a_standard_run_always_has_an_error():
    """Of the size of the spread over runs, which that of the genealogy alone is not with systematic resampling."""
    run = sample(LINEAR, 2, 160, kernel="random_walk", ladder=LADDER, ess_threshold=1, n_runs=400)
    log_z, _, _ = models.exact_linear(X3, Y3, SIGMA)
    log_ratio = np.asarray(run.log_evidence, np.float64) - log_z
    assert_unbiased(np.exp(log_ratio), 1.0, "Z")
    assert np.all(run.log_evidence_stderr > 0)
    assert 0.7 < np.mean(run.log_evidence_stderr**2) / log_ratio.var() < 1.5


@pytest.mark.slow
def test_both_modes_of_a_mixture_are_found():
    """N(-4, .5^2) and N(4, .5^2), weights 1/4 and 3/4, mass 3, from N(0, 5^2) by conditional ESS."""

    def log_density(x):
        parts = jnp.stack([norm.logpdf(x, -4.0, 0.5), norm.logpdf(x, 4.0, 0.5)])
        return jax.nn.logsumexp(parts + jnp.log(jnp.array([0.75, 2.25])))

    path = from_density(log_density, 0.0, 5.0)
    options = {"ladder": Adaptive(0.8, "cess", max_steps=30), "moves": 3, "kernel": "random_walk"}
    runs = [sample(path, seed, 400, **options) for seed in range(40)]
    right = np.array([float(run.expectation(lambda x: 1.0 * (x > 0))) for run in runs])
    assert abs(right.mean() - 0.75) < 4.9 * right.std() / np.sqrt(40) + 0.01
    z = np.exp([float(run.log_evidence) for run in runs])
    assert abs(z.mean() / 3 - 1) < 4.9 * z.std() / 3 / np.sqrt(40) + 0.01
    assert all(float(run.ladder[-1]) == 1.0 for run in runs)
    assert runs[0].num_steps < 30, "idle steps are not in the result"


@pytest.mark.slow
def test_an_interrupted_run_goes_on_from_its_checkpoint(tmp_path):
    options = {**OPTIONS, "ladder": Adaptive(0.5, max_steps=8)}
    whole = sample(LINEAR, 3, 64, callback=lambda told: None, **options)
    traced = sample(LINEAR, 3, 64, **options)
    np.testing.assert_allclose(traced.log_evidence, whole.log_evidence, atol=1e-3)

    def cut(told):
        if told.t == 2:
            raise KeyboardInterrupt

    file = tmp_path / "run"
    with pytest.raises(SMCInterrupted) as interrupted:
        sample(LINEAR, 3, 64, callback=cut, checkpoint=file, **options)
    assert interrupted.value.result.num_steps == 2
    resumed = sample(LINEAR, 3, 64, checkpoint=file, **options)
    np.testing.assert_array_equal(resumed.particles, whole.particles)
    np.testing.assert_array_equal(resumed.ladder, whole.ladder)
    assert resumed.log_evidence == whole.log_evidence


@pytest.mark.slow
def test_batches_change_nothing():
    """Twenty particles, seven at a time; of waste-free SMC five chains, two at a time."""
    for options, size in (({"persistent": True, "ladder": "ess"}, 7), ({"waste_free": 4}, 2)):
        options = {"kernel": "random_walk", "ladder": LADDER, "moves": 1} | options
        one, cut = (sample(LINEAR, 4, 20, batch_size=b, **options) for b in (None, size))
        np.testing.assert_allclose(one.log_evidence, cut.log_evidence, rtol=1e-4)
        np.testing.assert_allclose(one.particles, cut.particles, rtol=1e-3, atol=1e-3)


def spoiled(value, x):
    return jnp.where(jnp.arange(3)[0] == 0, value, 0.0) + 0.0 * jnp.sum(x)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value", "message"),
    [(np.nan, "NaN or .inf at step 0.*x = "), (-np.inf, "all weights are zero")],
)
def test_densities_that_cannot_be_used(value, message):
    path = Tempering(LINEAR.draw, models.log_normal, Partial(spoiled, jnp.float32(value)))
    with pytest.raises(SMCError, match=message) as error:
        sample(path, 0, 8, ladder=[1.0], **OPTIONS)
    assert error.value.result.particles.shape == (8, 3)
    failed = sample(path, 0, 8, ladder=[1.0], on_error="return", **OPTIONS)
    assert not failed.ok
    assert np.isnan(failed.log_evidence_stderr)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_particles": 0}, "n_particles=0"),
        ({"kernel": "gibbs"}, "'hmc', 'mala', 'nuts', 'random_walk'"),
        ({"ladder": [0.5]}, "ladder="),
        ({"moves": 0}, "moves=0"),
        ({"waste_free": 7}, "divides n_particles=100"),
        ({"waste_free": 10, "moves": "auto"}, "moves="),
        ({"waste_free": 10, "persistent": True}, "persistent=True"),
        ({"persistent": True, "ess_threshold": 0.5}, "ess_threshold=0.5"),
        ({"persistent": True, "unbiased": True}, "unbiased=True"),
        ({"n_runs": 0}, "n_runs=0"),
        ({"n_runs": 2, "checkpoint": "file"}, "checkpoint="),
        ({"on_error": "ignore"}, "on_error="),
    ],
)
def test_arguments_that_are_not_allowed(options, message, unchecked):
    with pytest.raises(InvalidArgument, match=message):
        sample(LINEAR, 0, **{"n_particles": 100, **options})


def test_paths_and_kernels_that_do_not_fit(unchecked):
    with pytest.raises(InvalidArgument, match="path='function'"):
        sample(lambda x: x)
    with pytest.raises(InvalidArgument, match="persistent=True"):
        sample(DATA, persistent=True)
    with pytest.raises(InvalidArgument, match="HMC for x of type int32"):
        sample(models.ising(0.3), n_particles=4, ladder=[1.0])
    with pytest.raises(UnknownName):
        sample(LINEAR, ladder="kl")
    with pytest.raises(InvalidArgument, match="batch_size"):
        sample(LINEAR, batch_size=0)
    assert smcgen.sample_posterior.__module__ == "smcgen.samplers.posterior"
