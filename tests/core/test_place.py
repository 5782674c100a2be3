"""In a run that Python drives JAX works on the host, and what a person computes stays where it was: two CPU devices."""

import os
import subprocess
import sys

# The second of two devices stands for a GPU that is JAX's default.
SCRIPT = """
import jax, numpy as np
host, other = jax.devices()
jax.config.update("jax_default_device", other)
import smcgen
from smcgen.core.place import beside

class Walk(smcgen.FeynmanKac):
    num_steps, traceable = 4, False
    def init(self, key, n): return self.step(key, 0, np.zeros(n))
    def step(self, key, t, x):
        assert t == 0 or key.devices() == {WHERE}  # drawn beside the weights
        moved = jax.random.normal(key, x.shape)  # a person's own JAX is on the device
        assert moved.devices() == {jax.config.jax_default_device}
        x = np.asarray(x) + np.asarray(moved)
        return x, LOG_G(x)
    def take(self, x, ancestors): return np.asarray(x)[np.asarray(ancestors)]

def run(log_g, where):
    global LOG_G, WHERE
    LOG_G, WHERE = log_g, where
    return smcgen.smc(Walk(), jax.random.key(3), 50, ess_threshold=1.0)

on_host = run(lambda x: -0.5 * x**2, host)
assert on_host.log_weights.devices() == {host}
on_device = run(lambda x: -0.5 * jax.numpy.asarray(x, np.float32) ** 2, other)
assert on_device.log_weights.devices() == {other}
np.testing.assert_allclose(on_host.log_evidence, on_device.log_evidence, rtol=1e-5)
jax.config.update("jax_default_device", host)
np.testing.assert_array_equal(on_host.particles, run(lambda x: -0.5 * x**2, host).particles)
jax.config.update("jax_default_device", other)
assert jax.jit(lambda x: beside(x) and x)(1.0).devices() == {other}
"""


def test_weights_and_keys_stay_on_the_host():
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=2"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
