"""From a NumPyro model to InferenceData: constrained sites with closed-form evidence."""

import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from scipy import special

import smcgen
from smcgen.errors import InvalidArgument
from tests.laws import assert_unbiased

arviz = pytest.importorskip("arviz")
COUNTS, TRIALS, HITS = np.array([3, 4, 2, 5, 1]), 10, 7
RUNS = 60


def conjugate(counts, hits=None):
    """A Gamma-Poisson and a Beta-Binomial: a missing Jacobian of either shows in the evidence."""
    rate = numpyro.sample("rate", dist.Gamma(2.0, 1.0))
    share = numpyro.sample("share", dist.Beta(2.0, 3.0))
    numpyro.deterministic("odds", share / (1 - share))
    with numpyro.plate("days", len(counts)):
        numpyro.sample("counts", dist.Poisson(rate), obs=counts)
    numpyro.sample("hits", dist.Binomial(TRIALS, share), obs=hits)


SHAPE, RATE = 2 + COUNTS.sum(), 1 + len(COUNTS)
LOG_Z = special.gammaln(SHAPE) - special.gammaln(2) - SHAPE * np.log(RATE)
LOG_Z -= special.gammaln(COUNTS + 1).sum()
LOG_Z += special.betaln(2 + HITS, 3 + TRIALS - HITS) - special.betaln(2, 3)
LOG_Z += np.log(special.comb(TRIALS, HITS))


@pytest.fixture(scope="module")
def data():
    return smcgen.sample_posterior(
        conjugate, COUNTS, hits=HITS, key=1, n_particles=100, n_runs=RUNS, moves=1
    )


@pytest.mark.slow
def test_evidence_and_moments(data):
    """Runs with the ladder and the kernels of a pilot are unbiased, at n = 100 too."""
    log_z = np.array(data.attrs["log_evidence_by_run"])
    assert_unbiased(np.exp(log_z - LOG_Z), 1.0, "Z")
    z = np.exp(log_z - LOG_Z)
    for name, mean in (("rate", SHAPE / RATE), ("share", (2 + HITS) / (5 + TRIALS))):
        by_run = data.posterior[name].mean("draw").to_numpy().astype(float)
        assert_unbiased(z * (by_run - mean), 0.0, name)
    assert abs(data.attrs["log_evidence"] - LOG_Z) < 5 * data.attrs["log_evidence_stderr"]


@pytest.mark.slow
def test_inference_data(data, tmp_path):
    assert data.posterior["rate"].dims == ("chain", "draw")
    assert data.posterior["rate"].shape == (RUNS, 100)
    np.testing.assert_allclose(
        data.posterior["odds"], data.posterior["share"] / (1 - data.posterior["share"]), rtol=1e-3
    )
    assert data.observed_data["counts"].dims == ("days",)
    assert data.log_likelihood["counts"].dims == ("chain", "draw", "days")
    stats = data.sample_stats
    assert stats["lp"].dims == stats["log_weight"].dims == ("chain", "draw")
    assert stats["ess"].dims == stats["temperature"].dims == ("chain", "step")
    ladder = np.array(data.attrs["ladder"])
    assert ladder[0] == 0
    assert ladder[-1] == 1
    assert np.all(np.diff(ladder) > 0)
    np.testing.assert_allclose(
        stats["log_evidence_increment"].sum("step"), data.attrs["log_evidence_by_run"], atol=1e-3
    )
    np.testing.assert_allclose(
        data.log_likelihood["counts"].sum("days") + data.log_likelihood["hits"],
        stats["log_likelihood"],
        rtol=1e-3,
    )
    assert data.attrs["status"] == "OK"
    assert data.attrs["n_evaluations"] > RUNS * 100
    assert "rate" in arviz.summary(data, kind="stats").index
    data.to_netcdf(str(tmp_path / "posterior.nc"))


def test_arguments_that_are_neither_options_nor_the_models():
    with pytest.raises(InvalidArgument, match="n_particle.*options: key, n_particles"):
        smcgen.sample_posterior(conjugate, COUNTS, n_particle=5)
    with pytest.raises(InvalidArgument, match="n_draws"):
        smcgen.sample_posterior(conjugate, COUNTS, n_draws=0)
