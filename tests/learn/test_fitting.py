"""E[log Z-hat] as an objective: its gradient, its optimum, and what a fit does when it is stopped."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import optax
import pytest
from flax import linen

import smcgen
from smcgen import ssm
from smcgen.errors import CheckpointError, InvalidArgument, ModelError, UnknownName
from smcgen.learn import (
    FitError,
    GaussianProposal,
    Kernels,
    Proposed,
    Quadratic,
    Twisted,
    filtering_bound,
    fit,
    load_params,
)
from smcgen.resampling import Transport
from tests.laws import assert_unbiased
from tests.learn.models import linear

START, MOVE = np.array([0.3, 0.7]), np.array([[0.8, 0.2], [0.4, 0.6]])
WORTH = np.array([[1.0, -1.0], [-0.5, 1.5], [2.0, 0.5]])


class Coins(smcgen.FeynmanKac):
    """Two states; potentials `exp(theta WORTH[t, x])`. Only they depend on theta."""

    num_steps = 2

    def __init__(self, theta):
        self.theta = theta

    def init(self, key, n):
        x = jax.random.categorical(key, jnp.log(START), shape=(n,))
        return x, self.theta * jnp.asarray(WORTH, jnp.float32)[0][x]

    def step(self, key, t, x):
        x = jax.random.categorical(key, jnp.log(jnp.asarray(MOVE, jnp.float32))[x], axis=-1)
        return x, self.theta * jnp.asarray(WORTH, jnp.float32)[t][x]


def exact_bound(theta):
    """E[log Z-hat] of two particles under multinomial resampling at every step, by enumeration."""
    pairs, total = list(itertools.product((0, 1), repeat=2)), 0.0

    def onwards(t, x, probability, log_z):
        nonlocal total
        g = np.exp(theta * WORTH[t][list(x)])
        log_z += np.log(g.mean())
        if t == 2:
            total += probability * log_z
            return
        w = g / g.sum()
        for a, new in itertools.product(pairs, pairs):
            p = np.prod([w[i] * MOVE[x[i], j] for i, j in zip(a, new, strict=True)])
            onwards(t + 1, new, probability * p, log_z)

    for x in pairs:
        onwards(0, x, START[list(x)].prod(), 0.0)
    return total


@pytest.mark.slow
def test_the_score_gradient_is_that_of_the_bound():
    def estimate(theta, key, gradient):
        bound, surrogate = filtering_bound(
            Coins(theta), key, 2, batch=3, gradient=gradient, resampling="multinomial"
        )
        return surrogate, bound

    keys = jax.random.split(jax.random.key(0), 20_000)
    slope = jax.grad(estimate, has_aux=True)
    both = jax.jit(lambda key: (slope(0.7, key, "score"), slope(0.7, key, "biased")[0]))
    (score, bounds), biased = jax.lax.map(both, keys, batch_size=2000)
    exact = (exact_bound(0.7 + 1e-4) - exact_bound(0.7 - 1e-4)) / 2e-4
    assert_unbiased(bounds, exact_bound(0.7), "bound")
    assert_unbiased(score, exact, "score gradient")
    off = np.asarray(biased, np.float64) - exact
    assert abs(off.mean()) > 10 * off.std() / np.sqrt(len(off)), "nothing to correct here"


class Drift(Kernels):
    """`x_t ~ N(0.9 x_{t-1}, 0.3^2)`, `y_t ~ N(x_t, 0.5^2)`."""

    num_steps = 4
    y = jnp.array([0.5, 1.5, -0.5, 1.0, 2.0])

    def initial(self):
        return dist.Normal(0.0, 0.3)

    def transition(self, t, x_prev):
        return dist.Normal(0.9 * x_prev, 0.3)

    def log_g(self, t, x_prev, x):
        return dist.Normal(x, 0.5).log_prob(self.y[t])


def beside_the_best(params):
    """The locally optimal proposal, `p(x_t | x_{t-1}, y_t)`, and as far from it as the parameters say."""

    def proposal(model, t, x_prev):
        law = model.initial() if x_prev is None else model.transition(t, x_prev)
        gain = 0.3**2 / (0.3**2 + 0.5**2)
        mean = law.mean + gain * (model.y[t] - law.mean)
        scale = 0.3 * np.sqrt(1 - gain)
        return dist.Normal(mean + scale * params["shift"], scale * jnp.exp(params["log_scale"]))

    return proposal


@pytest.mark.slow
def test_the_local_gradient_is_nought_at_the_best_proposal():
    """Weights depend there on where a particle came from, not on where it went: the mean of `grad log q` is 0.

    The gradient along paths that were resampled is not: it sees later observations, and not that weights do so too.
    """
    best = {"shift": jnp.zeros(()), "log_scale": jnp.zeros(())}

    def estimate(params, key, gradient):
        return filtering_bound(
            Proposed(Drift(), beside_the_best(params)), key, 4, gradient=gradient
        )[1]

    slope = jax.grad(estimate)
    keys = jax.random.split(jax.random.key(0), 10_000)
    both = jax.jit(jax.vmap(lambda key: (slope(best, key, "local"), slope(best, key, "biased"))))
    local, biased = both(keys)
    assert_unbiased(local["shift"], 0.0, "shift")
    assert_unbiased(local["log_scale"], 0.0, "log-scale")
    off = np.asarray(biased["shift"], np.float64)
    assert abs(off.mean()) > 10 * off.std() / np.sqrt(len(off))


class Normals(Kernels):
    """`x ~ N(0, 1)` in d dimensions, `y ~ N(x, r)`: no steps, so the bound is IWAE's."""

    num_steps = 0

    def __init__(self, y, r):
        self.y, self.r = jnp.asarray(y), r

    def initial(self):
        return dist.Normal(jnp.zeros(len(self.y)), 1.0).to_event(1)

    def transition(self, t, x_prev):
        return dist.Normal(x_prev, 1.0).to_event(1)

    def log_g(self, t, x_prev, x):
        return dist.Normal(x, self.r).to_event(1).log_prob(self.y)


def gaussian(params):
    """A proposal at time 0 with a mean and log-scale of its own."""

    def proposal(model, t, x_prev):
        return dist.Normal(params["mean"], jnp.exp(params["log_scale"])).to_event(1)

    return proposal


@pytest.mark.slow
def test_without_steps_the_optimum_is_the_posterior():
    model = Normals([1.0, -2.0], 0.5)
    begin = {"mean": jnp.zeros(2), "log_scale": jnp.zeros(2)}
    rate = optax.adam(optax.exponential_decay(0.05, 300, 0.1))
    # gradients for a proposal lose against their noise as n grows (Rainforth et al. 2018): a batch makes up for it
    options = {"n_particles": 4, "batch": 64, "steps": 900, "optimiser": rate}
    found = fit(lambda p: Proposed(model, gaussian(p)), begin, 0, **options)
    variance = 1 / (1 + 1 / 0.5**2)
    np.testing.assert_allclose(found.params["mean"], variance * model.y / 0.5**2, atol=0.02)
    np.testing.assert_allclose(found.params["log_scale"], 0.5 * np.log(variance), atol=0.02)
    log_z = dist.Normal(0, np.sqrt(1.25)).log_prob(model.y).sum()
    np.testing.assert_allclose(-found.losses[-50:].mean(), log_z, atol=5e-3)
    assert -found.losses[:20].mean() < log_z - 0.1
    assert "Fit(4 parameters, 900 steps" in repr(found)


@pytest.mark.slow
def test_with_resampling_a_learned_twist_reaches_the_evidence():
    """The bound is log Z with the exact twist, and the score gradient leads there; z-tests of Z-hat on the way."""
    model = linear(1, steps=3)
    # not at root = 0, where the gradient of its square is 0
    begin = {"root": jnp.full((4, 1, 1), 0.5), "h": jnp.zeros((4, 1))}

    def build(p):
        return Twisted(model, Quadratic(p["root"] ** 2, p["h"], jnp.zeros(4)))

    log_z, watched = model.kalman(), []
    # few particles and a large batch: the gradient's signal is the gap of the bound, its noise falls with the batch
    rate = optax.adam(optax.cosine_decay_schedule(0.15, 300))
    options = {"n_particles": 4, "batch": 64, "steps": 300, "optimiser": rate}
    options |= {"gradient": "score", "resampling": "multinomial", "callback": watched.append}
    found = fit(build, begin, 1, **options)
    assert -found.losses[:5].mean() < log_z - 0.2
    assert -found.losses[-50:].mean() > log_z - 0.01
    assert [step.step for step in watched] == list(range(50, 301, 50))
    one = jax.jit(jax.vmap(lambda p, key: smcgen.smc(build(p), key, 4).log_evidence, (None, 0)))
    keys = jax.random.split(jax.random.key(3), 5000)
    for params in (begin, watched[1].params, found.params):
        z_hat = np.exp(np.asarray(one(params, keys), np.float64))
        assert_unbiased(z_hat / np.exp(log_z), 1.0)


class Mlp(linen.Module):
    """One hidden layer; its last layer begins at zero."""

    out: int

    @linen.compact
    def __call__(self, x):
        last = linen.Dense(self.out, kernel_init=linen.initializers.zeros)
        return last(linen.tanh(linen.Dense(16)(x)))


class Walk(ssm.StateSpaceModel):
    """States forgotten at every step, so that the optimal proposal is `p(x_t | y_t)`, whatever comes."""

    r: float

    def initial(self):
        return dist.Normal(0.0, 1.0)

    def transition(self, t, x_prev):
        return dist.Normal(0.0 * x_prev, 1.0)

    def observation(self, t, x):
        return dist.Normal(x, self.r)


@pytest.mark.slow
def test_a_network_learns_the_optimal_proposal():
    """`p(x_t | y_t)` here, with which log Z-hat does not vary; the model is `smcgen.ssm`'s."""
    y = jnp.array([1.0, -1.5, 0.2, 0.8])
    module = Mlp(2)
    params = GaussianProposal.params_for(module, 1, 1)
    build = lambda p: ssm.Guided(Walk(0.6), y, GaussianProposal(module, p))
    rate = optax.adam(optax.exponential_decay(0.03, 300, 0.1))
    found = fit(build, params, 2, n_particles=8, batch=16, steps=600, optimiser=rate)
    log_z = dist.Normal(0, np.sqrt(1.36)).log_prob(y).sum()
    np.testing.assert_allclose(-found.losses[-50:].mean(), log_z, atol=0.01)
    law = GaussianProposal(module, found.params)(Walk(0.6), 1, jnp.zeros(2), y[1])
    np.testing.assert_allclose(law.mean, -1.5 / 1.36, atol=0.05)
    np.testing.assert_allclose(law.variance, 0.36 / 1.36, rtol=0.1)


@pytest.mark.slow
def test_a_stopped_fit_goes_on_as_if_it_had_not_been(tmp_path):
    target = jnp.array([1.0, 2.0])

    class Target(smcgen.FeynmanKac):
        num_steps = 0

        def __init__(self, p):
            self.p = p

        def init(self, key, n):
            x = self.p + jax.random.normal(key, (n, 2))
            return x, -jnp.sum((x - target) ** 2, axis=-1)

        def step(self, key, t, x):
            return x, jnp.zeros(len(x))

    options = {"n_particles": 2, "batch": 2, "optimiser": optax.adam(0.1)}
    whole = fit(Target, jnp.zeros(2), 0, steps=120, **options)
    file = tmp_path / "fit.safetensors"
    stop = RuntimeError("stopped")

    def stopping(step):
        if step.step > 60:
            raise stop

    with pytest.raises(RuntimeError, match="stopped"):
        fit(Target, jnp.zeros(2), 0, steps=120, checkpoint=file, callback=stopping, **options)
    resumed = fit(Target, jnp.zeros(2), 0, steps=120, checkpoint=file, **options)
    np.testing.assert_array_equal(resumed.params, whole.params)
    np.testing.assert_array_equal(resumed.losses, whole.losses)
    with pytest.raises(CheckpointError, match="belongs to another fit"):
        fit(Target, jnp.zeros(2), 1, steps=120, checkpoint=file, **options)
    with pytest.raises(CheckpointError, match="does not exist"):
        fit(Target, jnp.zeros(2), 0, steps=120, checkpoint=tmp_path / "no" / "x", **options)
    whole.save(tmp_path / "params.safetensors")
    np.testing.assert_array_equal(
        load_params(tmp_path / "params.safetensors", jnp.ones(2)), whole.params
    )
    with pytest.raises(CheckpointError, match="other parameters"):
        load_params(tmp_path / "params.safetensors", jnp.ones(3))
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_params(tmp_path / "none.safetensors", jnp.ones(3))


@pytest.mark.slow
def test_a_fit_that_cannot_work_is_said(unchecked):
    model = Normals([1.0], 0.5)
    bad = lambda p: Proposed(
        model, lambda model, t, x: dist.Normal(jnp.log(-1.0 - p), 1.0).to_event(1)
    )
    build = lambda p: Proposed(model, lambda model, t, x: dist.Normal(p, 1.0).to_event(1))
    zero = jnp.zeros(1)
    with pytest.raises(FitError, match="no step from 0 to 2 had a finite gradient") as caught:
        fit(bad, zero, 0, steps=3)
    assert np.isfinite(caught.value.result.params).all()

    class Host(smcgen.FeynmanKac):
        num_steps, traceable = 0, False
        init = step = lambda self, *arguments: None

    wide = GaussianProposal(Mlp(3), GaussianProposal.params_for(Mlp(3), 1))
    for call, error, message in (
        (lambda: fit(build, zero, 0, steps=-1), InvalidArgument, "steps"),
        (lambda: fit(build, zero, 0, batch=0), InvalidArgument, "batch"),
        (lambda: fit(build, zero, 0, n_particles=0), InvalidArgument, "n_particles"),
        (lambda: fit(build, jnp.zeros(1, int), 0), InvalidArgument, "floats to learn"),
        (lambda: fit(build, jnp.array([jnp.nan]), 0), InvalidArgument, "finite numbers"),
        (lambda: fit(build, zero, 0, gradient="exact"), UnknownName, "'biased', 'local', 'score'"),
        (lambda: fit(build, zero, 0, resampling=Transport(0.5)), InvalidArgument, "'biased'"),
        (lambda: fit(build, zero, 0, gradient="score"), InvalidArgument, "multinomial"),
        (
            lambda: fit(
                build, zero, 0, gradient="score", resampling="multinomial", ess_threshold=0.5
            ),
            InvalidArgument,
            "fixed times",
        ),
        (lambda: fit(lambda p: Host(), zero, 0), ModelError, "not traceable"),
        (lambda: smcgen.smc(Proposed(model, wide), 0, 4), ModelError, r"expected \(1, 2\)"),
    ):
        with pytest.raises(error, match=message):
            call()
