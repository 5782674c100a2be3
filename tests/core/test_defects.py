"""Defects that particle filters in use have had, each as a test of this one."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen import Status
from tests.core.models import Host
from tests.laws import assert_unbiased


class Noise(smcgen.FeynmanKac):
    """Keeps the noise of every step; potentials choose strongly, so resampling happens."""

    num_steps = 3

    def init(self, key, n):
        z = jax.random.normal(key, (n,))
        return jnp.zeros((n, 4)).at[:, 0].set(z), z

    def step(self, key, t, noise):
        z = jax.random.normal(key, noise.shape[:1])
        return noise.at[:, t].set(z), z


@pytest.mark.slow
def test_noise_of_different_steps_is_different():
    """Reusing the key of `init` for step 1 makes the two noises equal bit for bit."""
    noise = np.asarray(smcgen.smc(Noise(), 0, 4000, ess_threshold=0).particles)
    for s in range(4):
        for t in range(s):
            # by chance a few float32 draws in millions of pairs are equal
            assert np.isin(noise[:, s], noise[:, t]).mean() < 0.01
            assert_unbiased(noise[:, s] * noise[:, t], 0.0, f"noise of steps {t} and {s}")


def spy_on_keys(problems):
    """All key data that a run uses: in `init`, in every `step`, in every resampling."""
    used = []

    def see(data):
        used.extend(map(tuple, np.reshape(data, (-1, 2)).tolist()))

    class Spy(smcgen.FeynmanKac):
        num_steps, num_problems, traceable = 5, problems, False

        def init(self, key, n):
            see(jax.random.key_data(key))
            shape = (n,) if problems is None else (problems, n)
            return np.zeros(shape), np.zeros(shape)

        def step(self, key, t, state):
            see(jax.random.key_data(key))
            return state, np.zeros(state.shape)

    class Scheme:
        def __call__(self, key, log_weights):
            jax.debug.callback(see, jax.random.key_data(key))
            return jnp.arange(len(log_weights), dtype=jnp.int32)

    smcgen.smc(Spy(), 3, 4, resampling=Scheme(), ess_threshold=1)
    jax.effects_barrier()
    return used


@pytest.mark.slow
@pytest.mark.parametrize("problems", [None, 3])
def test_no_key_is_used_twice(problems):
    """Across time, resampling and propagation, and problems."""
    used = spy_on_keys(problems)
    assert len(used) == (problems or 1) * (1 + 5 + 5)
    assert len(set(used)) == len(used)
    # nor is a key that was drawn from the parent of another
    first = jax.random.wrap_key_data(jnp.asarray(used[: problems or 1], jnp.uint32))
    for t in range(6):
        below = jax.vmap(lambda key, t=t: jax.random.split(jax.random.fold_in(key, t)))(first)
        split = jax.vmap(lambda key: jax.random.split(key, 3))(first)
        for children in (below, split):
            data = np.asarray(jax.random.key_data(children)).reshape(-1, 2)
            assert not set(map(tuple, data.tolist())) & set(used)


@pytest.mark.slow
@pytest.mark.parametrize("driver", [lambda m: m, Host], ids=["traced", "host"])
def test_the_score_counts_once(driver):
    """One step, scores .9 and .5, and selection at the end: P(first) is .643, not .764.

    Resampling by the absolute score and selecting by the same score again squares it; here with
    odds of 5 : 1 before, the exact probability is .900, and .942 for the double count.
    """

    class OneStep(smcgen.FeynmanKac):
        num_steps = 1

        def init(self, key, n):
            x = jax.random.bernoulli(key, 5 / 6, (n,))
            return x, jnp.log(jnp.where(x, 0.9, 0.5))

        def step(self, key, t, x):
            return x, jnp.zeros(x.shape)

    model = driver(OneStep())
    runs = [smcgen.smc(model, seed, 400, ess_threshold=1) for seed in range(60)]
    z = np.exp([float(run.log_evidence) for run in runs])
    first = np.array([float(run.expectation(lambda x: x.astype(float))) for run in runs])
    exact = 5 / 6 * 0.9 + 1 / 6 * 0.5
    assert_unbiased(z / exact, 1.0, "Z")
    assert_unbiased(z * first / exact, 0.9, "P(first)")
    assert abs(first.mean() - 0.942) > 0.02


@pytest.mark.slow
def test_a_skipped_resampling_keeps_the_weights():
    """N(0, 1) and reward 2 tanh(x - 1), strength 2: exact mean 1.936, standard deviation .638.

    Dropping the weights whenever ESS is high enough gives 1.82, or anything from 1.2 to 3.
    """
    reward = lambda x: 2 * jnp.tanh(x - 1)

    class Denoise(smcgen.FeynmanKac):
        """x_t = sum of t + 1 terms of variance 1/4; guided by the reward of the partial sum."""

        num_steps = 3

        def init(self, key, n):
            x = 0.5 * jax.random.normal(key, (n,))
            return x, reward(x)

        def step(self, key, t, x):
            new = x + 0.5 * jax.random.normal(key, x.shape)
            return new, jnp.where(t == 3, 2.0, 1.0) * reward(new) - reward(x)

    grid = np.linspace(-8, 8, 4001)
    density = np.exp(-(grid**2) / 2 + 4 * np.tanh(grid - 1))
    density /= density.sum()
    mean = (density * grid).sum()
    spread = np.sqrt((density * grid**2).sum() - mean**2)
    np.testing.assert_allclose([mean, spread], [1.936, 0.638], atol=1e-3)

    keys = jax.random.split(jax.random.key(0), 300)
    run = jax.jit(jax.vmap(lambda k: smcgen.smc(Denoise(), k, 500, ess_threshold=0.5)))(keys)
    resampled = np.asarray(run.resampled)
    assert resampled.any()
    assert not resampled.all()
    z = np.exp(np.asarray(run.log_evidence, np.float64))
    x, w = np.asarray(run.particles, np.float64), np.exp(np.asarray(run.log_weights, np.float64))
    # ratio of unbiased estimates by the delta method
    z /= z.mean()
    assert_unbiased(z * ((w * x).sum(1) - mean), 0.0, "mean")
    assert_unbiased(z * ((w * (x - mean) ** 2).sum(1) - spread**2), 0.0, "variance")


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["multinomial", "systematic"])
def test_nan_and_all_zero_are_never_hidden(scheme):
    """NaN is not a potential of zero; no weight at all is not ancestor 0."""

    class Broken(smcgen.FeynmanKac):
        num_steps = 2

        def __init__(self, value):
            self.value = value

        def init(self, key, n):
            return jnp.arange(n), jnp.zeros(n)

        def step(self, key, t, x):
            bad = (
                self.value
                if np.isinf(self.value)
                else jnp.where(jnp.arange(len(x)) == 2, self.value, 0)
            )
            return x, jnp.broadcast_to(jnp.where(t == 1, bad, 0.0), x.shape)

    options = {"resampling": scheme, "ess_threshold": 1, "on_error": "return"}
    run = smcgen.smc(Broken(np.nan), 0, 5, **options)
    assert (int(run.status), int(run.status_step)) == (Status.NON_FINITE_POTENTIAL, 1)
    assert int(run.status_particle) == 2
    assert np.isnan(run.log_evidence)
    run = smcgen.smc(Broken(-np.inf), 0, 5, **options)
    assert (int(run.status), int(run.status_step)) == (Status.ALL_WEIGHTS_ZERO, 1)
    assert run.log_evidence == -np.inf
    np.testing.assert_array_equal(np.sort(run.ancestors[1]), np.arange(5))


@pytest.mark.slow
def test_a_particle_of_weight_zero_has_no_descendants():
    """First, last and middle ones, whatever the scheme."""

    class Half(smcgen.FeynmanKac):
        num_steps = 1

        def init(self, key, n):
            i = jnp.arange(n)
            return i, jnp.where(i % 2 == 0, -jnp.inf, 0.0)

        def step(self, key, t, i):
            return i, jnp.zeros(i.shape)

    for scheme in ("multinomial", "systematic"):
        run = smcgen.smc(Half(), 1, 9, resampling=scheme, ess_threshold=1)
        assert (np.asarray(run.particles) % 2 == 1).all(), scheme
        assert (np.asarray(run.founders) % 2 == 1).all(), scheme
        np.testing.assert_allclose(run.log_evidence, np.log(4 / 9), rtol=1e-5)
