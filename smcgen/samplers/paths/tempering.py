"""Tempering: `gamma_a(x) = prior(x) likelihood(x)^a`, a from 0 to 1."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.scipy.stats import norm
from jax.tree_util import Partial

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.precision import full_precision
from smcgen.errors import InvalidArgument
from smcgen.samplers.base import Path, Point, Scalar


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tempering(Path):
    """Any prior and likelihood, over any pytree x. Z is the evidence `E_prior[likelihood]`.

    Arguments are functions of one x (of one key for `draw`). Wrap one in `jax.tree_util.Partial(f, data)`, which
    calls `f(data, x)`, and another data set runs without compiling again.

    Args:
        draw: `draw(key)` is one x from the prior.
        log_prior: log density of the prior, normalised, nats.
        log_likelihood: nats; -inf means impossible.

    Raises:
        InvalidArgument: one of them is no function.
    """

    draw: Any
    log_prior: Any
    log_likelihood: Any

    def __post_init__(self):
        for name in ("draw", "log_prior", "log_likelihood"):
            object.__setattr__(self, name, as_data(name, getattr(self, name)))

    def sample(self, key: RandomKey) -> PyTree:
        """From the prior."""
        return self.draw(key)

    @full_precision()
    def evaluate(self, key: RandomKey | None, x: PyTree, at: Any) -> Point:
        """Both functions, once."""
        return Point(x, jnp.asarray(self.log_prior(x)), jnp.asarray(self.log_likelihood(x)))


def from_density(log_density: Callable[[PyTree], Any], mean: PyTree, scale: PyTree) -> Tempering:
    """A path to any density from a normal reference: `gamma_a = N(mean, scale^2)^(1-a) density^a`.

    For a density that nobody can draw from, not even its prior (Neal 2001). Z is the integral of `density`.

    Args:
        log_density: of one x, not necessarily normalised, nats.
        mean, scale: pytrees of arrays of the structure of x. The reference should cover the density.
    """
    mean = jax.tree.map(jnp.asarray, mean)
    scale = jax.tree.map(
        lambda m, s: jnp.broadcast_to(jnp.asarray(s, m.dtype), m.shape), mean, scale
    )
    density = as_data("log_density", log_density)
    return Tempering(
        Partial(_draw_normal, mean, scale),
        Partial(_log_normal, mean, scale),
        Partial(_log_ratio, density, mean, scale),
    )


def as_data(name: str, function: Any) -> Any:
    """A function as a pytree: a `Partial` keeps its arrays as data, another function is part of the program."""
    if isinstance(function, Partial):
        return function
    if callable(function):
        return Partial(function)
    if function is None or isinstance(function, str | int | float):
        raise InvalidArgument(name, function, "a function of one x")
    return function  # a placeholder: JAX builds pytrees of other things than their leaves


def _draw_normal(mean: PyTree, scale: PyTree, key: RandomKey) -> PyTree:
    leaves, structure = jax.tree.flatten(mean)
    keys = jax.random.split(key, len(leaves))
    noise = [jax.random.normal(k, m.shape, m.dtype) for k, m in zip(keys, leaves, strict=True)]
    return jax.tree.map(
        lambda m, s, e: m + s * e, mean, scale, jax.tree.unflatten(structure, noise)
    )


def _log_normal(mean: PyTree, scale: PyTree, x: PyTree) -> Scalar:
    terms = jax.tree.map(lambda m, s, x: jnp.sum(norm.logpdf(x, m, s)), mean, scale, x)
    return jnp.asarray(sum(jax.tree.leaves(terms)))


def _log_ratio(log_density: Any, mean: PyTree, scale: PyTree, x: PyTree) -> Scalar:
    return jnp.asarray(log_density(x)) - _log_normal(mean, scale, x)
