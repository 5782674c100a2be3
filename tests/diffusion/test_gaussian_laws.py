"""A Gaussian prior with a Gaussian and a linear reward, in 40 steps: evidence and posterior in closed form.

With the exact denoiser every step is linear and Gaussian, so x_T ~ N(m, v I) with moments by recursion, and for the
reward `r = a x - b (x - c)^2` of the first coordinate all is a Gaussian integral. Both rewards, without guidance,
with it, and with a ladder of strengths found by bisection besides, are data of one program.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen import diffusion
from smcgen.diffusion.backends.torch import Torch
from tests.diffusion.exact import quick_jit
from tests.laws import assert_unbiased

T, N, RUNS, MEAN, SD = 40, 8, 300, 0.5, 0.8
FLOW = diffusion.rectified_flow(T, shift=1.5)
LOOKS = tuple(range(21, T, 3))
CASES = {  # a, b, c; scale of guidance; whether strengths rise
    "linear": (1.5, 0.0, 0.0, 0.0, False),
    "gaussian": (0.0, 1.0, 2.0, 0.0, False),
    "linear, guided": (1.5, 0.0, 0.0, 1.0, False),
    "gaussian, guided": (0.0, 1.0, 2.0, 0.7, False),
    "linear, guided and tempered": (1.5, 0.0, 0.0, 1.0, True),
    "gaussian, guided and tempered": (0.0, 1.0, 2.0, 1.0, True),
}


def denoise(x, sigma):
    alpha = 1 - sigma
    return MEAN + alpha * SD**2 / (alpha**2 * SD**2 + sigma**2) * (x - alpha * MEAN)


def reward_of(numbers, x):
    a, b, c = numbers
    return a * x[:, 0] - b * (x[:, 0] - c) ** 2


def found_ladder(a, b, c):
    """A pilot run's, in torch: nothing to compile."""
    kernel = diffusion.Gaussian(denoise, FLOW, (2,), predicts="data", backend=Torch())
    reward = diffusion.FunctionReward(partial(reward_of, (a, b, c)))
    ladder = diffusion.find_ladder(diffusion.DiffusionModel(kernel, reward, steps=LOOKS), 0)
    rungs = ladder[np.array(LOOKS) - 1]
    assert 0 < rungs[0] < 1, "a ladder that does not rise tests nothing"
    assert np.all(np.diff(rungs) >= 0)
    return ladder


def moments():
    """Of a coordinate of x_T, from the kernel's equation."""
    mean, variance = 0.0, 1.0
    for t in range(T):
        a, s, a1, s1 = FLOW.alpha[t], FLOW.sigma[t], FLOW.alpha[t + 1], FLOW.sigma[t + 1]
        gain = a * SD**2 / (a**2 * SD**2 + s**2)
        tau2 = s1**2 * (1 - (a * s1 / (a1 * s)) ** 2)
        of_x = np.sqrt(s1**2 - tau2) / s
        of_data = a1 - of_x * a
        mean = of_x * mean + of_data * (MEAN + gain * (mean - a * MEAN))
        variance = (of_x + of_data * gain) ** 2 * variance + tau2
    return mean, variance


def exact(a, b, c):
    """log Z and the posterior mean of x for `exp(a x - b (x - c)^2)` under N(m, v)."""
    m, v = moments()
    precision = 1 / v + 2 * b
    linear = m / v + a + 2 * b * c
    log_z = 0.5 * (linear**2 / precision - m**2 / v) - b * c**2 - 0.5 * np.log(v * precision)
    return log_z, linear / precision


@pytest.mark.slow
def test_evidence_and_posterior():
    def one(key, numbers):
        a, b, c, scale, ladder = numbers
        reward = jax.tree_util.Partial(reward_of, (a, b, c))
        kernel = diffusion.Gaussian(denoise, FLOW, (2,), predicts="data")
        model = diffusion.DiffusionModel(
            kernel,
            diffusion.FunctionReward(reward, traceable=True),
            proposal=diffusion.Guided(scale),
            steps=LOOKS,
            ladder=ladder,
        )
        run = smcgen.smc(model, key, N, ess_threshold=0.7, keep="summary")
        return run.log_evidence, run.expectation(lambda p: p.data), jnp.sum(run.resampled)

    keys = jax.random.split(jax.random.key(0), (len(CASES), RUNS))
    rows = [
        (*case[:4], found_ladder(*case[:3]) if case[4] else np.ones(T + 1))
        for case in CASES.values()
    ]
    numbers = tuple(jnp.asarray(np.array(x), jnp.float32) for x in zip(*rows, strict=True))
    found = quick_jit(
        lambda ks, *d: jax.vmap(lambda k, *e: jax.vmap(lambda kk: one(kk, e))(k))(ks, *d)
    )(keys, *numbers)
    log_z, means, resampled = (np.asarray(x, np.float64) for x in found)
    for i, (name, (a, b, c, *_)) in enumerate(CASES.items()):
        exact_log_z, mean = exact(a, b, c)
        ratio = np.exp(log_z[i] - exact_log_z)
        assert_unbiased(ratio, 1.0, f"Z, {name}")
        assert_unbiased(ratio * (means[i, :, 0] - mean), 0.0, f"mean, {name}")
        assert_unbiased(ratio * (means[i, :, 1] - moments()[0]), 0.0, f"the other, {name}")
    assert resampled.mean() > 0.5
