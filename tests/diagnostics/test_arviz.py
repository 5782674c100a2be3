"""Export to ArviZ: names, shapes, draws by weight."""

import subprocess
import sys
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen.errors import InvalidArgument, MissingExtra
from tests.core.models import OPTIONS, Problems, gaussian, three_chains
from tests.laws import assert_law

arviz = pytest.importorskip("arviz")


@pytest.fixture(scope="module")
def run():
    return smcgen.smc(gaussian(), 1, **OPTIONS)


@pytest.mark.slow
def test_an_array_is_x(run):
    data = run.to_arviz()
    assert isinstance(data, arviz.InferenceData)
    assert data.posterior["x"].dims == ("chain", "draw")
    assert data.posterior["x"].shape == (1, 8)
    assert np.isin(data.posterior["x"], run.particles).all()
    assert data.sample_stats["ess"].dims == ("step",)
    np.testing.assert_allclose(data.sample_stats["ess"], run.ess)
    attrs = data.attrs
    np.testing.assert_allclose(attrs["log_evidence"], run.log_evidence)
    np.testing.assert_allclose(attrs["log_evidence_stderr"], run.log_evidence_stderr)
    assert (attrs["n_particles"], attrs["status"]) == (8, "OK")


@pytest.mark.slow
def test_draws_are_by_weight_and_rows_stay_together(run):
    """Every statistic of a draw is that of its particle."""
    data = run.to_arviz(key=3, num=20_000)
    x = np.asarray(data.posterior["x"])[0]
    which = np.argmax(x[:, None] == np.asarray(run.particles), 1)
    assert_law(np.bincount(which, minlength=8), np.exp(np.asarray(run.log_weights, np.float64)))
    stats = data.sample_stats
    np.testing.assert_array_equal(stats["log_weight"][0], np.asarray(run.log_weights)[which])
    np.testing.assert_array_equal(stats["founder"][0], np.asarray(run.founders)[which])
    again = run.to_arviz(key=3, num=20_000)
    np.testing.assert_array_equal(again.posterior["x"], data.posterior["x"])


class Pair(NamedTuple):
    left: jax.Array
    right: jax.Array


def test_names_of_nested_particles(run):
    x = run.particles
    nested = {"a": x, "b": Pair(x, jnp.ones((8, 2, 3))), "c": [x > 0], "text": np.array(["t"] * 8)}
    data = run.replace(particles=nested).to_arviz()
    assert set(data.posterior) == {"a", "b.left", "b.right", "c.0"}
    assert data.posterior["b.right"].shape == (1, 8, 2, 3)
    pair = run.replace(particles=(x, 2 * x)).to_arviz().posterior
    assert set(pair) == {"x.0", "x.1"}
    np.testing.assert_allclose(pair["x.1"], 2 * pair["x.0"])


@pytest.mark.slow
def test_problems_are_a_dimension():
    result = smcgen.smc(Problems(three_chains()), 0, **OPTIONS)
    data = result.to_arviz(num=50)
    assert data.posterior["x"].dims == ("chain", "draw", "problem")
    assert data.posterior["x"].shape == (1, 50, 3)
    assert data.sample_stats["ess"].dims == ("step", "problem")
    assert data.attrs["status"] == ["OK"] * 3
    assert len(data.attrs["log_evidence"]) == 3
    log_weight = np.asarray(data.sample_stats["log_weight"])[0]
    for b in range(3):
        assert np.isin(log_weight[:, b], result.log_weights[b]).all()


@pytest.mark.slow
def test_arviz_summarises_it(run, tmp_path):
    data = run.to_arviz(num=100)
    assert "x" in arviz.summary(data, kind="stats").index
    data.to_netcdf(str(tmp_path / "run.nc"))


def test_what_cannot_be_exported(run):
    with pytest.raises(InvalidArgument, match="numeric arrays"):
        run.replace(particles=["a", "b"]).to_arviz()
    with pytest.raises(InvalidArgument, match="num=0"):
        run.to_arviz(num=0)


def test_without_arviz(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "arviz", None)
    with pytest.raises(MissingExtra, match=r"needs the package 'arviz'.*smcgen\[plot\]"):
        run.to_arviz()


@pytest.mark.slow
def test_nothing_is_imported_before_use():
    code = "import sys, smcgen.diagnostics.plots, smcgen.diagnostics.arviz; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert not {"matplotlib", "arviz", "xarray", "pandas"} & set(done.stdout.split())
