"""Nested SMC: unbiased for any inner system, and near the locally optimal proposal for a large one."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import smcgen
from smcgen.errors import InvalidArgument, ModelError
from smcgen.learn import Nested, Twisted
from tests.laws import assert_unbiased
from tests.learn.models import hidden, linear


def many(model, runs, n, phi=None):
    """Z-hat, and Z-hat phi-hat, of independent runs."""

    def one(key):
        run = smcgen.smc(model, key, n, ess_threshold=0.8)
        mean = run.expectation(phi) if phi else 0.0
        return run.log_evidence, mean

    log_z, mean = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(n), runs))
    return np.asarray(log_z, np.float64), np.asarray(mean, np.float64)


@pytest.mark.slow
def test_unbiased_with_two_inner_particles():
    model, phi = hidden(steps=3, pairs=True), np.array([1.0, -2.0, 0.5])
    log_z, mean = many(Nested(model, 2), 20_000, 3, lambda x: jnp.asarray(phi, jnp.float32)[x])
    z = model.exact()
    assert_unbiased(np.exp(log_z) / z, 1.0, "Z")
    last = type(model)(model.start, model.move, model.table.at[-1].add(np.log(phi + 3)))
    assert_unbiased(np.exp(log_z) * (mean + 3) / last.exact(), 1.0, "Z phi")


@dataclass(frozen=True)
class Coordinates(smcgen.FeynmanKac):
    """One particle's next state, coordinate by coordinate: `N(m, I)` with `y_k ~ N(x_1 + ... + x_k, r)`."""

    mean: Any
    y: Any
    r: Any

    @property
    def num_steps(self):
        return len(self.mean) - 1

    def init(self, key, n):
        return self.step(key, 0, jnp.zeros((n, len(self.mean))))

    def step(self, key, t, x):
        x = x.at[:, t].set(self.mean[t] + jax.random.normal(key, (len(x),)))
        return x, dist.Normal(x.sum(-1), self.r).log_prob(self.y[t])


@pytest.mark.slow
def test_unbiased_with_smc_over_coordinates_inside():
    model = linear(3, steps=2, r=0.8)
    model = type(model)(model.a, jnp.eye(3), jnp.tril(jnp.ones((3, 3))), model.r, model.y)

    def inner(t, x_prev):
        mean = jnp.zeros(3) if x_prev is None else model.a @ x_prev
        return Coordinates(mean, model.y[t], model.r)

    log_z, _ = many(Nested(model, 4, inner), 10_000, 8)
    assert_unbiased(np.exp(log_z) / np.exp(model.kalman()), 1.0)


@pytest.mark.slow
def test_many_inner_particles_give_the_fully_adapted_filter():
    """That filter in closed form is the model twisted by its own potentials; F-tests at one in a million."""
    model = linear(
        1, r=0.7, steps=6
    )  # sharper, and 64 inner particles are not many: y lies in the tails
    variance = lambda model: many(model, 300, 16)[0].var(ddof=1)
    bootstrap, nested = variance(model), variance(Nested(model, 64))
    adapted = variance(Twisted(model, model.own_twist()))
    limit = stats.f.isf(1e-6, 299, 299)
    assert bootstrap / nested > limit
    assert 1 / limit < nested / adapted < limit


@pytest.mark.slow
def test_paths_are_those_of_the_states_and_errors_are_said():
    model = hidden(steps=2)
    run = smcgen.smc(Nested(model, 2), 0, 4, keep="particles")
    assert run.history.shape == (3, 4)
    np.testing.assert_array_equal(run.trajectories()[-1], run.particles)

    class Plain(smcgen.FeynmanKac):
        num_steps = 1
        init = step = lambda self, *arguments: None

    for bad, error, message in (
        (Nested(Plain(), 2), ModelError, "traceable smcgen.Markov"),
        (Nested(model, 0), InvalidArgument, "inner_particles"),
    ):
        with pytest.raises(error, match=message):
            smcgen.smc(bad, 0, 4)
