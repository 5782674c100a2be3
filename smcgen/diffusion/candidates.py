"""Choosing one of M candidates by weight."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.nn import logsumexp
from jaxtyping import Array, Float, Int

from smcgen.core._types import RandomKey
from smcgen.core.place import beside
from smcgen.core.resampling.fixed import double_uniforms
from smcgen.core.resampling.multinomial import draw, scaled_weights


def split_keys(key: RandomKey, num: int) -> list[RandomKey]:
    """`num` keys; of a key for each problem, `num` such arrays."""
    with beside(key):
        return _split(key, num=num)


@partial(jax.jit, static_argnames="num")
def _split(key: RandomKey, num: int) -> list[RandomKey]:
    if key.ndim == 0:
        return list(jax.random.split(key, num))
    each = jax.vmap(lambda k: jax.random.split(k, num))(key)
    return [each[:, i] for i in range(num)]


def choose(
    key: RandomKey, log_weights: Any, pinned: Any = None
) -> tuple[Int[Array, " rows"], Float[Array, " rows"]]:
    """One index of each row of (rows, M) log-weights, in proportion to the weights; and log of the mean weight.

    If candidates are draws from q and their weights w = p / q, the chosen one, weighted by the mean of w, is properly
    weighted for p: `E[mean(w) f(chosen)] = E_q[w f]`. In rows `pinned` the choice is candidate 0.
    """
    with beside(key):
        return _choose(key, jnp.asarray(log_weights, jnp.float32), pinned)


@partial(jax.jit, static_argnames=())
def _choose(key: RandomKey, log_weights: Any, pinned: Any) -> tuple[Any, Any]:
    rows, m = log_weights.shape
    if key.ndim == 0:
        uniforms = double_uniforms(key, (rows,))
    else:
        each = (rows // key.shape[0],)
        uniforms = jax.vmap(lambda k: double_uniforms(k, each))(key).reshape(rows)
    with jax.enable_x64(True):
        one = lambda u, lw: draw(u[None], scaled_weights(lw))[0]
        chosen = jnp.maximum(jax.vmap(one)(uniforms, log_weights), 0).astype(jnp.int32)
    if pinned is not None:
        chosen = chosen.at[pinned].set(0)
    return chosen, logsumexp(log_weights, axis=1) - jnp.log(m)
