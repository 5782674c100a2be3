"""Evidence bounds: from both sides in the mean, and closing in as particles become many."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen.errors import InvalidArgument, ModelError
from smcgen.learn import evidence_bounds
from tests.core.models import Host
from tests.laws import LIMIT, assert_unbiased, z_score
from tests.learn.models import linear


def simulate(model, key):
    """A path and a model with observations that it gave: the path is a draw of the target."""
    k0, *keys = jax.random.split(key, model.num_steps + 2)
    x = [model.draw_initial(k0, 1)]
    for t, k in enumerate(keys[:-1], 1):
        x.append(model.draw(k, t, x[-1]))
    path = jnp.concatenate(x)
    noise = jax.random.normal(keys[-1], model.y.shape)
    return path, type(model)(model.a, model.q, model.b, model.r, path @ model.b.T + model.r * noise)


def log_evidence(model):
    """log Z under tracing: observations are jointly Gaussian."""
    times, d = len(model.y), len(model.a)
    covs, cov = [jnp.eye(d)], jnp.eye(d)
    for _ in range(times - 1):
        cov = model.a @ cov @ model.a.T + model.q
        covs.append(cov)
    rows = []
    for s in range(times):
        row = [None] * times
        power = jnp.eye(d)
        for t in range(s, times):
            row[t] = model.b @ power @ covs[s] @ model.b.T
            power = model.a @ power
        rows.append(row)
    full = jnp.block(
        [
            [rows[min(s, t)][max(s, t)] if t <= s else rows[s][t].T for t in range(times)]
            for s in range(times)
        ]
    )
    full += model.r**2 * jnp.eye(len(full))
    return jax.scipy.stats.multivariate_normal.logpdf(model.y.ravel(), jnp.zeros(len(full)), full)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["systematic"])
def test_bounds_on_simulated_data(scheme):
    model = linear(1, steps=3, r=0.5)

    def one(key, n):
        data, run = jax.random.split(key)
        path, simulated = simulate(model, data)
        bounds = evidence_bounds(simulated, run, path, n, runs=2, resampling=scheme)
        return log_evidence(simulated), bounds.lowers, bounds.uppers

    gaps = []
    for n in (4, 32):
        keys = jax.random.split(jax.random.key(n), 60_000 // n)
        z, low, up = (
            np.asarray(x, np.float64) for x in jax.jit(jax.vmap(lambda key, n=n: one(key, n)))(keys)
        )
        for i in range(2):  # the second conditional run follows a path that the first has chosen
            assert_unbiased(np.exp(low[:, i] - z), 1.0, "E_P[Z-hat / Z]")
            assert_unbiased(np.exp(z - up[:, i]), 1.0, "E_P'[Z / Z-hat]")
            assert z_score(low[:, i] - z, 0.0) < -LIMIT
            assert z_score(up[:, i] - z, 0.0) > LIMIT
        gaps.append((up - low).mean())
    assert gaps[1] < gaps[0] / 3


@pytest.mark.slow
def test_both_drivers_agree_and_errors_are_said(unchecked):
    model = linear(1, steps=2)
    path = jnp.zeros((3, 1))
    bounds = evidence_bounds(model, 0, path, 8, runs=2)
    text = repr(bounds)
    assert text.startswith("EvidenceBounds(lower=")
    assert "runs=2" in text
    np.testing.assert_allclose(bounds.gap, bounds.upper - bounds.lower)

    class OnHost(type(model)):
        traceable = False

    other = OnHost(*(getattr(model, k) for k in ("a", "q", "b", "r", "y")))
    host = evidence_bounds(other, 0, path, 8, runs=2)
    np.testing.assert_allclose(host.lowers, bounds.lowers, rtol=1e-5)
    np.testing.assert_allclose(host.uppers, bounds.uppers, rtol=1e-5)
    with pytest.raises(ModelError, match="lacks init_pinned"):
        evidence_bounds(Host(model), 0, path)
    with pytest.raises(InvalidArgument, match="runs"):
        evidence_bounds(model, 0, path, runs=0)
    with pytest.raises(InvalidArgument, match="n_particles"):
        evidence_bounds(model, 0, path, 0)
    assert smcgen.evidence_bounds is evidence_bounds
