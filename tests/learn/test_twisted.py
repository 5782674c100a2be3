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


@jax.jit
def evidences(model):
    """Z-hat of 20 000 independent runs: one program for each kind of model."""
    one = lambda key: smcgen.smc(model, key, 4, ess_threshold=0.8, keep="summary").log_evidence
    return jax.vmap(one)(jax.random.split(jax.random.key(4), 20_000))


@jax.jit
def log_joint(model, path):
    """`log prod_t M_t G_t` along each of several paths, time leading."""
    total = model.log_initial(path[0]) + model.log_g(0, None, path[0])
    for t in range(1, model.num_steps + 1):
        total += model.log_transition(t, path[t - 1], path[t])
    return total


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["vectors", "states"])
def test_the_target_is_the_same_along_any_path(kind):
    """Kernels times potentials is an identity, so nothing need be simulated to see it."""
    if kind == "vectors":
        model = linear(2, steps=2, k=1)
        path = jnp.asarray(RNG.normal(0, 2, (3, 50, 2)), jnp.float32)
        twisted = Twisted(model, bad_quadratic(model))
        others = [
            Twisted(twisted, bad_quadratic(model)),
            Lookahead(twisted, jax.tree_util.Partial(lambda t, x: jnp.sin(t + x[:, 0]))),
            Twisted(Proposed(model, jax.tree_util.Partial(wide)), bad_quadratic(model)),
        ]
    else:
        model, path = hidden(steps=2, pairs=True), jnp.asarray(RNG.integers(0, 3, (3, 50)))
        others = [Lookahead(Twisted(model, bad_table(model)), bad_table(model))]
    for other in others:
        np.testing.assert_allclose(
            log_joint(other, path), log_joint(model, path), rtol=1e-4, atol=1e-3
        )


@pytest.mark.slow
@pytest.mark.parametrize("model", [linear(5, k=3), hidden()], ids=["vectors", "states"])
def test_with_the_exact_twist_every_run_gives_the_evidence(model):
    """And with a bad one they differ, and are right in the mean."""
    exact = model.exact_twist()
    log_z = model.kalman() if isinstance(model, Linear) else np.log(model.exact())
    np.testing.assert_allclose(evidences(Twisted(model, exact)), log_z, rtol=2e-6, atol=2e-6)
    if isinstance(model, Linear):
        bad = Quadratic(0.9 * exact.precision, exact.linear, exact.offset)
    else:
        bad = bad_table(model)
    check_unbiased(Twisted(model, bad), np.exp(log_z))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["lookahead", "proposed"])
def test_unbiased_whatever_a_lookahead_or_a_proposal_is_worth(kind):
    model = linear(1)
    if kind == "lookahead":
        other = Lookahead(model, jax.tree_util.Partial(lambda t, x: jnp.sin(t + x[:, 0])))
    else:
        other = Proposed(model, jax.tree_util.Partial(wide))
    check_unbiased(other, np.exp(model.kalman()))


def check_unbiased(model, z):
    found = np.exp(np.asarray(evidences(model), np.float64))
    assert found.std() > 0.1 * z, "a test of bad twists needs bad twists"
    assert_unbiased(found / z, 1.0)


@pytest.mark.slow
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

    @jax.jit
    def both(twist, x):
        a, b = Twisted(Scalar(), twist), Twisted(model, twist)
        numbers = []
        for t, before in ((0, None), (1, x)):
            vector = None if before is None else before[:, None]
            one = a.initial() if t == 0 else a.transition(t, before)
            many = b.initial() if t == 0 else b.transition(t, vector)
            numbers += [(a.log_g(t, before, x), b.log_g(t, vector, x[:, None]))]
            numbers += [(one.mean, many.mean[..., 0]), (one.variance, many.variance[..., 0])]
        return numbers

    for one, many in both(bad_quadratic(model), jnp.linspace(-1, 1, 5)):
        np.testing.assert_allclose(one, many, rtol=1e-5)


@pytest.mark.slow
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
        (
            Twisted(heavy, flat(2, 2)),
            "tilts Normal and MultivariateNormal kernels, not Independent",
        ),
        (
            Twisted(chain, flat(2, 1)),
            "tilts Normal and MultivariateNormal kernels, not Categorical",
        ),
        (Twisted(chain, Table.flat(2, 4)), "Table twist of 4 states.* of 3 states"),
        (Twisted(model, Table.flat(2, 4)), "Table twist of 4 states.*not MultivariateNormal"),
        (Lookahead(model, lambda t, x: x), r"gives shape \(4, 2\); expected \(4,\)"),
        (Proposed(Bare(), lambda model, t, x: dist.Normal(0.0, 1.0)), "lacks log_initial or log_m"),
    ):
        with pytest.raises(ModelError, match=message):
            jax.eval_shape(lambda key, bad=bad: bad.init(key, 4), jax.random.key(0))
    nan = flat(2, 2)
    nan = Quadratic(nan.precision, nan.linear.at[1].set(jnp.nan), nan.offset)
    with pytest.raises(smcgen.SMCError, match="NaN"):
        smcgen.smc(Twisted(model, nan), 0, 4)
