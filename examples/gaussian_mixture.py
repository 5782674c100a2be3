"""Steer a diffusion model whose answer is known: how far each way of guiding is from it.

python examples/gaussian_mixture.py

The data are a ring of eight Gaussians and the reverse process is exact. Every way has the same target and E[Z-hat] = Z;
what differs is how far off one run is. The whole run is one jitted scan, so many of them are one call of `vmap`.
"""

import jax
import jax.numpy as jnp
import numpy as np

import smcgen
from smcgen.diffusion import (
    Difference,
    DiffusionModel,
    FunctionReward,
    GaussianMixture,
    ManyDraws,
    ddpm,
)

T, LOG_Z = 12, -2.9678  # by quadrature
angles = 2 * jnp.pi * jnp.arange(8) / 8
ring = 4 * jnp.stack([jnp.cos(angles), jnp.sin(angles)], axis=1)
kernel = GaussianMixture(ring, 0.3**0.5, ddpm(T))
reward = FunctionReward(lambda x: -(x[:, 0] ** 2) - (x[:, 1] - 1) ** 2 / 10, traceable=True)
late = range(T // 2 + 1, T + 1)  # early on the predicted data says little

for name, options in {
    "nothing (importance sampling)": {"twist": None},
    "difference": {"steps": late},
    "difference, 16 draws": {"steps": late, "twist": Difference(ManyDraws(16))},
}.items():
    model = DiffusionModel(kernel, reward, **options)
    run = lambda key, m=model: smcgen.smc(m, key, n_particles=16, keep="summary").log_evidence
    found = np.asarray(jax.vmap(run)(jax.random.split(jax.random.key(0), 100)))
    print(f"{name:30} log Z-hat {found.mean():.2f} ± {found.std():.2f}, exact {LOG_Z:.2f}")
