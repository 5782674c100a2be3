"""Conditional SMC over denoising paths leaves the target invariant, at three particles.

A path is drawn from the target exactly (x_T from the tilted mixture, then the noising process, of which the kernel
is the exact reverse), one transition is made, and what is on average true of the old path must be true of the new one.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcgen import diffusion
from smcgen.core.backward import Backward, backward_lineages
from smcgen.core.conditional import conditional_smc
from smcgen.diffusion.state import DiffusionRecord
from tests.diffusion.exact import TOYS, TWISTS, AnyTwist, Toy, quick_jit, toy_model
from tests.laws import LIMIT, assert_unbiased

T, N = 6, 3
SCHEDULE = diffusion.ddpm(T)
RAMP = np.linspace(0, 1, T + 1)[:-1] ** 2
CASES = [
    (toy, twist, last, guidance)
    for toy in ("grid", "ring")
    for twist, last, guidance in (
        ("difference", 1.0, 0.0),
        ("immediate", 0.3, 0.5),
        ("max", 0.3, 0.0),
        ("sum", 0.1, 1.0),
    )
]


def features(paths):
    """Numbers of a path (..., T + 1, 2) whose means are compared."""
    end, middle, before = paths[..., -1, :], paths[..., 3, :], paths[..., -2, :]
    return np.concatenate(
        [end, end**2, middle * end, middle**2, before * middle, before**2], axis=-1
    )


def transitions(paths, seed, ancestor_sampling=False, backward=False, **options):
    """One transition from each path; paths (cases, runs, T + 1, 2)."""

    def one(key, path, arrays, which, ladder, scale):
        twist = AnyTwist(which)
        model = toy_model(arrays, SCHEDULE, twist, ladder, scale, steps=(3, 4, 5, 6), **options)
        run_key, pick_key, back_key = jax.random.split(key, 3)
        nothing = jnp.zeros(T + 1)
        reference = DiffusionRecord(path, None, nothing, nothing)
        result = conditional_smc(
            model, run_key, reference, N, ancestor_sampling=ancestor_sampling, ess_threshold=0.7
        )
        last = result.sample(pick_key)
        if not backward:
            return result.path(last[0]).x
        lines = backward_lineages(model, result, back_key, last, Backward(), only_resampled=True)
        return result.history.x[jnp.arange(T + 1), lines[:, 0]]

    @quick_jit
    def all_of(keys, paths, *data):
        each = lambda ks, ps, *d: jax.vmap(lambda k, p: one(k, p, *d))(ks, ps)
        return jax.vmap(each)(keys, paths, *data)

    arrays = jax.tree.map(lambda *x: jnp.stack(x), *(TOYS[toy].arrays() for toy, *_ in CASES))
    which = jnp.asarray([TWISTS.index(twist) for _, twist, _, _ in CASES])
    ladders = jnp.asarray([np.append(last * RAMP, 1.0) for _, _, last, _ in CASES])
    scales = jnp.asarray([guidance for *_, guidance in CASES])
    keys = jax.random.split(jax.random.key(seed), paths.shape[:2])
    return np.asarray(all_of(keys, jnp.asarray(paths), arrays, which, ladders, scales))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [{"backward": True}, {"ancestor_sampling": True, "candidates": 2}],
    ids=["backward sampling", "ancestor sampling, two candidates"],
)
def test_the_target_is_invariant(options):
    runs, rng = 400, np.random.default_rng(0)
    old = np.stack([TOYS[toy].draw_path(rng, SCHEDULE, runs) for toy, *_ in CASES])
    new = transitions(old, 1, **options)
    difference = features(new.astype(np.float64)) - features(old.astype(np.float64))
    spread = difference.std(1)
    z = difference.mean(1) / spread * np.sqrt(runs)
    worst = np.unravel_index(np.abs(z).argmax(), z.shape)
    assert np.abs(z).max() < LIMIT, f"{CASES[worst[0]]}, feature {worst[1]}: z={z[worst]:.1f}"
    changed = np.mean(np.any(new != old, axis=-1), axis=(0, 1))  # at each time
    assert changed[-1] > 0.2
    assert changed[0] > 0.25
    # the reference must be exactly representable: what did not move is the same to the bit
    assert np.mean(np.all(new == old, axis=(-1, -2))) > 0.05


@pytest.mark.slow
def test_guidance_that_misses_most_of_the_target_is_unbiased():
    """E[1 / Z-hat] = 1 / Z with a path of the target as reference, where the tail of Z-hat is too heavy for its mean.

    A ring, lambda = 2, guidance .8, looks at every step: most of the target lies where few guided paths go.
    """
    ring, runs, steps = TOYS["ring"], 1500, 10
    toy, schedule = Toy(ring.means, ring.variance, 0.02, 2.0, 0.0), diffusion.ddpm(steps)
    model = toy_model(toy.arrays(), schedule, AnyTwist(0), scale=0.8)
    nothing = jnp.zeros(steps + 1)

    def one(key, path):
        reference = DiffusionRecord(path, None, nothing, nothing)
        return conditional_smc(model, key, reference, 8, ess_threshold=0.5).log_evidence

    paths = toy.draw_path(np.random.default_rng(0), schedule, runs)
    keys = jax.random.split(jax.random.key(1), runs)
    log_z = np.asarray(quick_jit(jax.vmap(one))(keys, jnp.asarray(paths)), np.float64)
    excess = log_z - toy.exact()[0]
    assert_unbiased(np.exp(-excess), 1.0, "Z / Z-hat")
    assert np.mean(excess > 5) > 0.2  # the tail that this is about
