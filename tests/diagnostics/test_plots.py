"""Figures of a run: drawn for every kind of run, and showing what happened."""

import sys

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure

import smcgen
from smcgen.diagnostics._select import one_problem, survivors, tidy_positions
from smcgen.errors import InvalidArgument, MissingExtra
from tests.core.models import OPTIONS, Problems, chain, gaussian, three_chains


def run(n=8, **options):
    return smcgen.smc(gaussian(), 1, **{**OPTIONS, "n_particles": n, **options})


@pytest.fixture(scope="module")
def several():
    return smcgen.smc(Problems(three_chains()), 0, **OPTIONS)


def drawn(figure, path):
    figure.savefig(path)
    return path.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize("n", [8, 1000])
def test_three_panels(n, tmp_path):
    result = run(n)
    figure = result.plot(path=tmp_path / "run.png")
    assert isinstance(figure, Figure)
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    ess, evidence, genealogy = figure.axes
    np.testing.assert_allclose(ess.lines[0].get_ydata(), result.ess, rtol=1e-6)
    marked = ess.lines[1].get_xdata() if np.any(result.resampled) else []
    np.testing.assert_array_equal(marked, np.flatnonzero(result.resampled))
    np.testing.assert_allclose(
        evidence.lines[0].get_ydata(), np.cumsum(result.log_evidence_increments), rtol=1e-5
    )
    lines = [len(c.get_segments()) for c in genealogy.collections if hasattr(c, "get_segments")]
    assert sum(lines[:2]) == 4 * n
    assert "nats" in evidence.get_ylabel()
    assert "step" in genealogy.get_xlabel()
    assert f"of {n} particles" in ess.get_ylabel()


@pytest.mark.slow
def test_one_problem_of_several(several):
    figure = several.plot(problem=1)
    np.testing.assert_allclose(figure.axes[0].lines[0].get_ydata(), several.ess[:, 1], rtol=1e-6)
    for problem in (None, 3, -4):
        with pytest.raises(InvalidArgument, match="an index below 3"):
            several.plot(problem=problem)
    with pytest.raises(InvalidArgument, match="this run has one problem"):
        run().plot(problem=1)


@pytest.mark.slow
def test_without_ancestors_there_are_two_panels():
    assert len(run(keep="summary").plot().axes) == 2


def test_into_given_axes():
    figure = Figure()
    axes = figure.subplots(1, 3)
    assert run().plot(ax=axes) is figure
    with pytest.raises(InvalidArgument, match="3 axes, one for each panel"):
        run().plot(ax=axes[:2])


@pytest.mark.parametrize("value", [-np.inf, np.nan])
def test_a_failed_run_says_where(value, tmp_path):
    y = (0.5, 1.5, -value, 0.4, 1.0)
    result = smcgen.smc(gaussian(y=y), 0, on_error="return", **OPTIONS)
    figure = result.plot()
    assert "from step 2" in figure.axes[1].texts[0].get_text()
    assert drawn(figure, tmp_path / "failed.svg")


@pytest.mark.slow
def test_no_steps(tmp_path):
    assert drawn(smcgen.smc(chain(0, steps=0), 0, 4).plot(), tmp_path / "run.png")


def test_lines_of_descent_do_not_cross():
    ancestors = np.random.default_rng(0).integers(0, 9, (6, 9))
    places = tidy_positions(ancestors)
    for t in range(6):
        assert sorted(places[t + 1]) == list(range(9))
        parents = places[t][ancestors[t]]
        assert (np.diff(parents[np.argsort(places[t + 1])]) >= 0).all()


def test_survivors_are_the_ancestors_of_the_living():
    result = run()
    lineage = np.asarray(result.ancestry())
    has = survivors(np.asarray(result.ancestors), np.ones(8, bool))
    for t, row in enumerate(has):
        np.testing.assert_array_equal(np.flatnonzero(row), np.unique(lineage[t]))
    # a particle of weight zero is not alive
    has = survivors(np.asarray(result.ancestors), np.arange(8) == 3)
    np.testing.assert_array_equal(has.sum(1), 1)


def test_a_batch_of_runs_must_be_indexed_first(several):
    batch = several.replace(log_evidence=jnp.zeros((2, 3)))
    with pytest.raises(InvalidArgument, match="index the batch first"):
        one_problem(batch, 0)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtra, match=r"pip install 'smcgen\[plot\]'"):
        run().plot()
