"""Paths: the densities they say they have."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm
from jax.tree_util import Partial
from scipy import stats

from smcgen.errors import InvalidArgument
from smcgen.samplers import DataTempering, Tempering, from_density
from smcgen.samplers.base import power

BATCHES = {"y": jnp.array([[0.5, 1.0], [2.0, -1.0], [0.3, 0.0]])}


def log_batch(x, batch):
    return jnp.sum(norm.logpdf(batch["y"], x))


DATA = DataTempering(jax.random.normal, norm.logpdf, log_batch, BATCHES)


def test_data_tempering_adds_batches():
    x = jnp.float32(0.7)
    total = lambda first, last: stats.norm(0.7).logpdf(np.ravel(BATCHES["y"][first:last])).sum()
    for at in range(4):
        point = DATA.evaluate(None, x, jnp.int32(at))
        np.testing.assert_allclose(point.log_likelihood, total(0, at), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(
            DATA.log_density(point, at), stats.norm.logpdf(0.7) + total(0, at), rtol=1e-5
        )
        new, ratio = DATA.advance(jax.random.key(0), point, at, 3)
        np.testing.assert_allclose(ratio, total(at, 3), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(new.log_likelihood, total(0, 3), rtol=1e-5)
    slope = jax.grad(lambda x: DATA.evaluate(None, x, jnp.int32(2)).log_likelihood)(x)
    np.testing.assert_allclose(slope, (np.asarray(BATCHES["y"][:2]) - 0.7).sum(), rtol=1e-5)


def test_batches_that_do_not_fit():
    for batches in (
        {"a": jnp.zeros(3), "b": jnp.zeros(4)},
        {"a": jnp.zeros((0, 2))},
        jnp.float32(1),
    ):
        with pytest.raises(InvalidArgument, match="one length of the first axis"):
            print(DataTempering(jax.random.normal, norm.logpdf, log_batch, batches).end)


def test_from_density_bridges_a_normal():
    """At 0 the reference, at 1 the density."""
    log_density = lambda x: -jnp.abs(x["a"]) - jnp.sum(x["b"] ** 4)
    path = from_density(log_density, {"a": 1.0, "b": jnp.zeros(2)}, {"a": 2.0, "b": 0.5})
    x = path.sample(jax.random.key(0))
    assert {k: v.shape for k, v in x.items()} == {"a": (), "b": (2,)}
    point = path.evaluate(None, x, 0.0)
    reference = stats.norm(1, 2).logpdf(x["a"]) + stats.norm(0, 0.5).logpdf(x["b"]).sum()
    np.testing.assert_allclose(path.log_density(point, 0.0), reference, rtol=1e-5)
    np.testing.assert_allclose(path.log_density(point, 1.0), log_density(x), rtol=1e-4)


def test_likelihood_zero_to_the_power_zero_is_one():
    np.testing.assert_array_equal(power(jnp.array([-jnp.inf, -2.0]), 0.0), [0, 0])
    np.testing.assert_array_equal(power(jnp.array([-jnp.inf, -2.0]), 0.5), [-jnp.inf, -1])


def test_a_path_is_a_pytree_whose_data_can_be_mapped_over():
    make = lambda mean: Tempering(jax.random.normal, norm.logpdf, Partial(norm.logpdf, mean))
    paths = jax.vmap(make)(jnp.arange(3.0))
    values = jax.vmap(lambda path: path.evaluate(None, jnp.float32(0), 1.0).log_likelihood)(paths)
    np.testing.assert_allclose(values, stats.norm.logpdf([0, 1, 2]), rtol=1e-6)


def test_what_is_no_function():
    with pytest.raises(InvalidArgument, match="log_likelihood=None.*a function of one x"):
        Tempering(jax.random.normal, norm.logpdf, None)
