"""The Gaussian kernel: DDPM, DDIM and the flow SDE are one formula, and its densities are what they should be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from scipy import stats

from smcgen import diffusion
from smcgen.diffusion.backends.jax import draw_normal
from smcgen.diffusion.backends.torch import Torch
from smcgen.diffusion.kernels.gaussian import Gaussian
from smcgen.errors import InvalidArgument

MEAN, SD = 0.5, 1.0


def exact_denoiser(schedule, mean=MEAN, sd=SD):
    """E[data | x] of N(mean, sd^2), by the schedule's index as time."""

    def denoise(x, t):
        a, s = schedule.alpha[t], schedule.sigma[t]
        return mean + a * sd**2 / (a * a * sd**2 + s * s) * (x - a * mean)

    return denoise


def indexed(schedule):
    return diffusion.Schedule(
        schedule.alpha, schedule.sigma, np.arange(len(schedule.alpha)), schedule.prior_scale
    )


def kernel(schedule, eta=1.0, **options):
    schedule = indexed(schedule)
    denoise = exact_denoiser(schedule)
    options = {"predicts": "data", "eta": eta, "backend": Torch(dtype=torch.float64)} | options
    return Gaussian(denoise, schedule, (1,), **options)


def law_of_end(k):
    """Mean and standard deviation of x_T: the process is linear and Gaussian."""
    mean, var, unit = 0.0, k.schedule.prior_scale**2, np.array([[0.0], [1.0]])
    for t in range(1, k.num_steps + 1):
        x = torch.tensor(unit)
        zero, one = k._mean(t, x, k.predict(t - 1, x, None, None)).ravel().tolist()
        slope = one - zero
        mean, var = zero + slope * mean, slope**2 * var + k.step_variance(t)
    return mean, var**0.5


@pytest.mark.parametrize(("steps", "sd"), [(28, 0.917), (50, 0.954), (200, 0.986)])
def test_the_flow_sde_keeps_the_marginals(steps, sd):
    """Not .674, .686, .699, which stochastic sampling of flow schedulers gives; the sd of the data is 1."""
    mean, found = law_of_end(kernel(diffusion.rectified_flow(steps)))
    assert mean == pytest.approx(MEAN, abs=1e-6)
    assert found == pytest.approx(sd, abs=0.0025)  # .917, .954, .986 were simulated


def test_draws_have_that_law():
    k, rows = kernel(diffusion.rectified_flow(28)), 20_000
    key = jax.random.key(0)
    x = k.draw_prior(key, rows)
    for t in range(1, 29):
        x = k.draw(jax.random.fold_in(key, t), t, x, k.predict(t - 1, x, None, None))
    mean, sd = law_of_end(k)
    assert stats.kstest(x.ravel().numpy(), "norm", (mean, sd)).pvalue > 1e-6


def test_eta_one_is_the_posterior_of_ddpm():
    schedule = diffusion.ddpm(50)
    k, bar = kernel(schedule), schedule.alpha**2
    for t in (1, 20, 49):
        step = bar[t - 1] / bar[t]
        posterior = (1 - bar[t]) / (1 - bar[t - 1]) * (1 - step)
        assert k.step_variance(t) == pytest.approx(posterior, rel=1e-9)
        of_data = np.sqrt(bar[t]) * (1 - step) / (1 - bar[t - 1])
        assert k._steps["of_data"][t] == pytest.approx(of_data, rel=1e-7)


def test_eta_zero_is_deterministic_and_the_last_step_always():
    assert all(kernel(diffusion.ddpm(10), eta=0.0).deterministic)
    assert kernel(diffusion.ddpm(10)).deterministic == (False,) * 9 + (True,)


def test_densities():
    k, rng = kernel(diffusion.edm(12), eta=0.7), np.random.default_rng(0)
    x, new, shift = (torch.tensor(rng.normal(size=(5, 1)) * s) for s in (9, 9, 0.5))
    t = 4
    data = k.predict(t - 1, x, None, None)
    mean, sd = k._mean(t, x, data), k.step_variance(t) ** 0.5
    expected = stats.norm.logpdf(new, mean, sd).ravel()
    np.testing.assert_allclose(k.log_prob(t, x, data, new), expected, rtol=1e-6)
    moved = stats.norm.logpdf(new - shift, mean, sd).ravel()
    found = k.log_shift(t, x, data, new, shift)
    np.testing.assert_allclose(found, expected - moved, rtol=1e-5, atol=1e-6)
    same = k._mean(12, x, data)
    assert list(k.log_prob(12, x, data, same)) == [0.0] * 5
    assert list(k.log_prob(12, x, data, same + 0.1)) == [-np.inf] * 5


def test_whatever_the_network_predicts():
    schedule = diffusion.ddpm(10)
    a, s = schedule.alpha[3], schedule.sigma[3]
    data, noise = torch.randn(4, 1), torch.randn(4, 1)
    x = a * data + s * noise
    outputs = {
        "data": data,
        "eps": noise,
        "v": a * noise - s * data,
        "velocity": noise - data,
        "score": -noise / s,
    }
    for predicts, out in outputs.items():
        k = Gaussian(lambda x, t, out=out: out, schedule, (1,), predicts, backend=Torch())
        torch.testing.assert_close(k.predict(3, x, None, None), data, rtol=1e-4, atol=1e-4)


def test_refused(unchecked):
    schedule = diffusion.ddpm(10)
    with pytest.raises(InvalidArgument, match="eta=1.5 is not allowed"):
        Gaussian(lambda x, t: x, schedule, (1,), eta=1.5)
    with pytest.raises(InvalidArgument, match="predicts='noise' is not allowed"):
        Gaussian(lambda x, t: x, schedule, (1,), predicts="noise")
    with pytest.raises(InvalidArgument, match="noise comes first"):
        diffusion.Schedule([1, 1, 1], [0.1, 1.0, 0.0], [0, 1, 2])


def test_noise_is_jax_randoms_own():
    """Bit for bit: what is written out for speed is the same as `jax.random.normal`."""
    key = jax.random.key(3)
    np.testing.assert_array_equal(draw_normal(key, 5, (7, 3)), jax.random.normal(key, (5, 7, 3)))
    with jax.enable_x64(True):
        assert draw_normal(key, 2, (3,)).dtype == jnp.float64
