"""How a population lies in memory changes nothing that a run gives: devices that share it, potentials in batches."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen.errors import InvalidArgument, ModelError
from tests.core.models import Host, gaussian
from tests.laws import LIMIT

PROGRAM = """
import jax, numpy as np, smcgen
from tests.core.models import Problems, gaussian, three_chains
from tests.core.test_layout import Heavy

assert len(jax.devices()) == 8
model, shared = gaussian(), {"devices": jax.devices()}
options = {"n_particles": 64, "ess_threshold": 0.9, "keep": "particles"}
one = smcgen.smc(model, 0, **options)
eight = smcgen.smc(model, 0, **options, **shared)
assert {s.data.shape for s in eight.particles.addressable_shards} == {(8,)}
assert {s.data.shape for s in eight.history.addressable_shards} == {(5, 8)}
np.testing.assert_array_equal(one.ancestors, eight.ancestors)
for name in ("particles", "history", "log_weights", "log_evidence", "ess"):
    np.testing.assert_allclose(getattr(one, name), getattr(eight, name), rtol=1e-5, atol=1e-5)
moved = eight.ancestors[np.asarray(eight.resampled)] // 8 != np.arange(64) // 8
assert moved.mean() > 0.1, "ancestors on other devices"
seen = []
watched = smcgen.smc(model, 0, **options, **shared, callback=seen.append)
np.testing.assert_array_equal(one.ancestors, watched.ancestors)
assert len({s.device for s in watched.particles.addressable_shards}) == 8

both = [smcgen.smc(Problems(three_chains()), 1, 16, **more) for more in ({}, shared)]
np.testing.assert_array_equal(both[0].particles["x"], both[1].particles["x"])
assert {s.data.shape for s in both[1].particles["x"].addressable_shards} == {(3, 2)}

heavy = Heavy(problems=2)  # 8 of each device's 10 particles in two batches, and 2 that are left
both = [smcgen.smc(heavy, 0, 80, **more) for more in ({}, {"batch_size": 4, **shared})]
np.testing.assert_array_equal(both[0].particles["x"], both[1].particles["x"])
np.testing.assert_allclose(both[0].log_evidence, both[1].log_evidence, rtol=1e-6)

heavy, n = Heavy(points=512), 8 * 1024
def needed(size):
    options = {"keep": "summary", "batch_size": size}
    run = lambda key: smcgen.smc(heavy, key, n, **options, **shared).log_evidence
    return jax.jit(run).lower(jax.random.key(0)).compile().memory_analysis().temp_size_in_bytes

assert needed(64) < n * 512 / 4 < needed(None), "bytes of one device: all of its potentials are 4"
"""


@pytest.mark.slow
def test_eight_devices_give_what_one_gives():
    """Particle for particle, so that the law is the same too."""
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    root = Path(__file__).parents[2]
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=root, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr


class Heavy(smcgen.Markov):
    """A walk whose potential compares each particle with many points."""

    num_steps = 2

    def __init__(self, points=7, problems=None):
        self.points, self.num_problems = points, problems

    def _normal(self, key, n):
        if self.num_problems is None:
            return jax.random.normal(key, (n,))
        return jax.vmap(lambda key: jax.random.normal(key, (n,)))(key)

    def draw_initial(self, key, n):
        return {"x": self._normal(key, n)}

    def draw(self, key, t, x_prev):
        return {"x": x_prev["x"] + self._normal(key, x_prev["x"].shape[-1])}

    def log_g(self, t, x_prev, x):
        at = jnp.arange(self.points, dtype=jnp.float32)
        start = 0.0 if x_prev is None else x_prev["x"][..., None]
        return jax.nn.logsumexp(-((x["x"][..., None] - at + start) ** 2), axis=-1)


@pytest.mark.slow
@pytest.mark.parametrize("problems", [None, 2])
def test_batches_change_nothing(problems):
    model = Heavy(problems=problems)
    runs = [smcgen.smc(model, 0, 10, batch_size=size) for size in (None, 4)]
    np.testing.assert_array_equal(runs[0].ancestors, runs[1].ancestors)
    np.testing.assert_allclose(runs[0].log_evidence, runs[1].log_evidence, rtol=1e-6)
    if problems is None:
        seen = []
        watched = smcgen.smc(model, 0, 10, batch_size=5, callback=seen.append)
        np.testing.assert_allclose(runs[0].log_evidence, watched.log_evidence, rtol=1e-6)


@pytest.mark.slow
def test_batches_bound_memory():
    """What the compiled program needs for one step's potentials: all particles times all points, or a batch of them."""
    model, n = Heavy(points=512), 4096

    def needed(size):
        run = lambda key: smcgen.smc(model, key, n, keep="summary", batch_size=size).log_evidence
        return jax.jit(run).lower(jax.random.key(0)).compile().memory_analysis().temp_size_in_bytes

    assert needed(None) > 4 * n * 512
    assert needed(64) < n * 512


def test_what_cannot_be_shared_or_cut(unchecked):
    model, one = gaussian(), jax.devices()[:1]
    for options, error, message in (
        ({"devices": "all"}, InvalidArgument, "a sequence of devices"),
        ({"devices": ()}, InvalidArgument, "share n_particles=4 evenly"),
        ({"devices": one * 3}, InvalidArgument, "3 devices"),
        ({"batch_size": 0}, InvalidArgument, "batch_size=0"),
        ({"batch_size": 2.0}, InvalidArgument, "batch_size=2.0"),
        ({"batch_size": 2}, ModelError, "needs a smcgen.Markov model"),
    ):
        with pytest.raises(error, match=message):
            smcgen.smc(model, 0, 4, **options)
    with pytest.raises(InvalidArgument, match="not traceable"):
        smcgen.smc(Host(model), 0, 4, devices=one)


@pytest.mark.optimised
@pytest.mark.slow
def test_ten_million_particles_in_single_precision():
    """The error of log Z-hat is what it is at any n: its standard deviation falls as n^{-1/2}, and nothing drifts."""
    model = gaussian(y=(0.5, 1.5))
    exact, mean = model.kalman()
    small = jax.jit(
        jax.vmap(lambda key: smcgen.smc(model, key, 1000, ess_threshold=1).log_evidence)
    )
    spread = np.std(small(jax.random.split(jax.random.key(0), 200))) * np.sqrt(1000)
    n = 10**7
    run = smcgen.smc(model, 1, n, ess_threshold=1, keep="summary")
    assert abs(float(run.log_evidence) - exact) < LIMIT * spread / np.sqrt(n) + 1e-6
    assert abs(float(run.expectation(lambda x: x)) - mean) < LIMIT * 2 / np.sqrt(n) + 1e-6
