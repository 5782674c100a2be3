"""The particle filter and its variants have one target, and an unbiased estimate of its evidence."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcgen import scaling
from smcgen.core.resampling import Annealed
from tests.laws import assert_unbiased
from tests.scaling import exact

VARIANTS = {
    "value": scaling.ParticleFilter(ess_threshold=0.9),
    "warmup": scaling.TemperedParticleFilter(warmup=2, ess_threshold=0.9),
    "entropic": scaling.EntropicParticleFilter(resampling=Annealed(0.8), ess_threshold=1.0),
    "lookahead": scaling.ParticleFilter(lookahead=1, ess_threshold=0.9),
}


@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.slow) for n in VARIANTS])
def test_evidence_is_unbiased(name):
    z = sum(p * exact.psi(text) for (text, _), p in exact.law().items())
    outcomes = exact.run(VARIANTS[name])
    estimates = np.exp([o.runs[0].log_evidence for o in outcomes])
    assert_unbiased(estimates / z, 1.0)
    value = lambda o: sum(w * t.count("a") for w, t in zip(o.weights, o.texts, strict=True))
    exactly = sum(p * exact.psi(t) * t.count("a") for (t, _), p in exact.law().items())
    estimates = estimates * np.array([value(o) for o in outcomes])
    assert_unbiased(estimates / exactly, 1.0)


@pytest.mark.slow
def test_annealed_resampling_keeps_weights_unbiased():
    lw = jnp.log(jnp.array([0.9, 0.05, 0.03, 0.02, 0.0, 1e-6]))
    scheme = Annealed(0.5)
    ancestors, new = jax.vmap(lambda k: scheme.weighted(k, lw))(
        jax.random.split(jax.random.key(0), 4000)
    )
    mass = np.array(jnp.exp(new)[:, :, None] * (ancestors[:, :, None] == jnp.arange(6))).sum(1)
    expected = np.array(jnp.exp(lw) / jnp.exp(lw).sum())
    assert (mass[:, 4] == 0).all()
    for i in (0, 1, 2, 3, 5):
        assert_unbiased(mass[:, i] / expected[i], 1.0, f"particle {i}")
    counts = np.array((ancestors[:, :, None] == jnp.arange(6)).sum(1)).mean(0)
    shares = counts / counts.sum()
    assert 1 / (shares**2).sum() == pytest.approx(3.0, rel=0.02)  # floor * n
