"""Twists and proposals change the variance alone; with the exact twist there is none."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import smcgen
from smcgen.errors import ModelError
from smcgen.learn import Kernels, Lookahead, Proposed, Quadratic, Table, Twisted
from tests.laws import assert_unbiased
from tests.learn.models import Linear, hidden, linear

pytestmark = pytest.mark.usefixtures("quick_compile")
RNG = np.random.default_rng(7)


def bad_quadratic(model):
    """Nothing to do with the model; one direction is convex, as far as the kernels allow."""
    times, d = model.num_steps + 1, len(model.a)
    root = RNG.normal(0, 0.7, (times, d, d))
    p = root @ root.transpose(0, 2, 1)
    p[:, 0, 0] -= 0.2
    numbers = p, RNG.normal(0, 0.5, (times, d)), RNG.normal(size=times)
    return Quadratic(*(jnp.asarray(x, jnp.float32) for x in numbers))


def bad_table(model, k=3):
    return Table(jnp.asarray(RNG.normal(0, 1, (model.num_steps + 1, k)), jnp.float32))


def wide(model, t, x_prev):
    """A bad proposal: three times too wide, a little beside."""
    law = model.initial() if x_prev is None else model.transition(t, x_prev)
    return dist.MultivariateNormal(law.mean + 0.3, scale_tril=1.5 * law.scale_tril)


def evidences(model, runs, n, **options):
    """Z-hat of independent runs."""
    one = lambda key: smcgen.smc(model, key, n, **options).log_evidence
    return np.asarray(jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(n), runs)), np.float64)


def log_joint(model, path):
    """`log prod_t M_t G_t` along each of several paths, time leading."""
    total = model.log_initial(path[0]) + model.log_g(0, None, path[0])
    for t in range(1, model.num_steps + 1):
        total += model.log_transition(t, path[t - 1], path[t])
    return np.asarray(total, np.float64)


@pytest.mark.parametrize(
    "model",
    [linear(1, steps=2), linear(3, steps=2, k=2), hidden(steps=2), hidden(steps=2, pairs=True)],
    ids=["scalar", "vector", "states", "pairs"],
)
def test_the_target_is_the_same_along_any_path(model):
    """Kernels times potentials is an identity, so nothing need be simulated to see it."""
    if isinstance(model, Linear):
        path = jnp.asarray(RNG.normal(0, 2, (3, 50, len(model.a))), jnp.float32)
        others = [
            Twisted(model, bad_quadratic(model)),
            Twisted(Twisted(model, bad_quadratic(model)), bad_quadratic(model)),
            Lookahead(model, lambda t, x: jnp.sin(t + x[:, 0])),
            Lookahead(Twisted(model, bad_quadratic(model)), bad_quadratic(model)),
            Proposed(model, wide),
            Twisted(Proposed(model, wide), bad_quadratic(model)),
        ]
    else:
        path = jnp.asarray(RNG.integers(0, 3, (3, 50)))
        others = [Twisted(model, bad_table(model)), Lookahead(model, bad_table(model))]
    exact = log_joint(model, path)
    for other in others:
        np.testing.assert_allclose(log_joint(other, path), exact, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize(
    "model",
    [linear(1), pytest.param(linear(5, k=3), marks=pytest.mark.slow), hidden()],
    ids=["scalar", "vector", "states"],
)
def test_with_the_exact_twist_every_run_gives_the_evidence(model):
    log_z = model.kalman() if isinstance(model, Linear) else np.log(model.exact())
    found = evidences(Twisted(model, model.exact_twist()), 50, 4)
    np.testing.assert_allclose(found, log_z, rtol=2e-6, atol=2e-6)
    if isinstance(model, Linear):  # not vacuous: a twist that is a little off does not
        twist = model.exact_twist()
        off = Quadratic(1.01 * twist.precision, twist.linear, twist.offset)
        assert np.ptp(evidences(Twisted(model, off), 50, 4)) > 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["twisted", "lookahead", "proposed", "states", "states ahead"])
def test_unbiased_whatever_the_twist_is_worth(kind):
    model = hidden(pairs=True) if "states" in kind else linear(1, seed=3)
    other = {
        "twisted": lambda: Twisted(model, bad_quadratic(model)),
        "lookahead": lambda: Lookahead(model, lambda t, x: jnp.sin(t + x[:, 0])),
        "proposed": lambda: Proposed(model, wide),
        "states": lambda: Twisted(model, bad_table(model)),
        "states ahead": lambda: Lookahead(model, bad_table(model)),
    }[kind]()
    z = model.exact() if "states" in kind else np.exp(model.kalman())
    found = np.exp(evidences(other, 20_000, 6, ess_threshold=0.8))
    assert found.std() > 0.1 * z, "a test of bad twists needs bad twists"
    assert_unbiased(found / z, 1.0, kind)


def test_scalar_states_are_vectors_of_one():
    model = linear(1, steps=2)

    class Scalar(Kernels):
        num_steps = 2

        def initial(self):
            return dist.Normal(0.0, 1.0)

        def transition(self, t, x_prev):
            return dist.Normal(model.a[0, 0] * x_prev, jnp.sqrt(model.q[0, 0]))

        def log_g(self, t, x_prev, x):
            return model.log_g(t, None, x[:, None])

    twist, x = bad_quadratic(model), jnp.linspace(-1, 1, 5)
    for t, before in ((0, None), (1, x)):
        vector = None if before is None else before[:, None]
        a, b = Twisted(Scalar(), twist), Twisted(model, twist)
        np.testing.assert_allclose(a.log_g(t, before, x), b.log_g(t, vector, x[:, None]), rtol=1e-5)
        laws = (a.initial(), b.initial()) if t == 0 else (a.transition(t, x), b.transition(t, x[:, None]))
        np.testing.assert_allclose(laws[0].mean, laws[1].mean[..., 0], rtol=1e-5)
        np.testing.assert_allclose(laws[0].variance, laws[1].variance[..., 0], rtol=1e-5)


def test_what_cannot_be_twisted_is_said():
    model, chain = linear(2, steps=2), hidden(steps=2)

    class Bare(smcgen.Markov):
        num_steps = 2

        def draw_initial(self, key, n):
            return jax.random.normal(key, (n,))

        def draw(self, key, t, x_prev):
            return x_prev

        def log_g(self, t, x_prev, x):
            return -(x**2)

    class Heavy(type(model)):
        def initial(self):
            return dist.StudentT(3.0, jnp.zeros(2), 1.0).to_event(1)

    heavy = Heavy(*(getattr(model, k) for k in ("a", "q", "b", "r", "y")))
    flat = Quadratic.flat
    for bad, message in (
        (Twisted(Bare(), flat(2, 1)), "Bare does not show the laws it draws from"),
        (Twisted(model, lambda t, x: x[:, 0]), "a function cannot tilt kernels"),
        (Twisted(model, flat(2, 3)), r"states of 3 numbers; the kernel's have shape \(2,\)"),
        (Twisted(heavy, flat(2, 2)), "tilts Normal and MultivariateNormal kernels, not Independent"),
        (Twisted(chain, flat(2, 1)), "tilts Normal and MultivariateNormal kernels, not Categorical"),
        (Twisted(chain, Table.flat(2, 4)), "Table twist of 4 states.* of 3 states"),
        (Twisted(model, Table.flat(2, 4)), "Table twist of 4 states.*not MultivariateNormal"),
        (Lookahead(model, lambda t, x: x), r"gives shape \(4, 2\); expected \(4,\)"),
        (Proposed(Bare(), lambda model, t, x: dist.Normal(0.0, 1.0)), "lacks log_initial or log_m"),
    ):
        with pytest.raises(ModelError, match=message):
            smcgen.smc(bad, 0, 4)
    nan = flat(2, 2)
    nan = Quadratic(nan.precision, nan.linear.at[1].set(jnp.nan), nan.offset)
    with pytest.raises(smcgen.SMCError, match="NaN"):
        smcgen.smc(Twisted(model, nan), 0, 4)
