"""Laws of masked tokens in JAX: the functions of `laws_torch`, traceable, computed at every position."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from smcgen.core.resampling.multinomial import cumulative
from smcgen.diffusion.masked.orders import Confidence
from smcgen.text.sampling import Sampling

_LARGEST = 2**25  # numbers of a law that are held at once, in double precision
_SMALL = 64  # a vocabulary in which comparing with all is as quick as a search, and compiles sooner


def draw_tokens(logits: Array, sampling: Sampling, uniforms: Any, where: Any, x: Array) -> Array:
    """x with an exact draw at each position of `where`, by inversion in double precision."""
    drawn = draw_many(logits, sampling, uniforms[..., None], where, x)
    return drawn


def draw_many(logits: Array, sampling: Sampling, uniforms: Any, where: Any, x: Array) -> Array:
    """k copies of each row with draws of their own; uniforms (rows, L, k). Shape (rows * k, L)."""
    rows, length, k = uniforms.shape
    law = warp(logits, sampling)
    with jax.enable_x64(True):
        at_rows = lambda at: jax.vmap(_invert)(*at)
        over = (uniforms.transpose(1, 0, 2), law.transpose(1, 0, 2))
        at_once = max(1, _LARGEST // (rows * law.shape[-1]))
        if at_once >= length:
            drawn = jax.vmap(lambda u, law: at_rows((u, law)))(*over)
        else:
            drawn = jax.lax.map(at_rows, over, batch_size=at_once)
    drawn = drawn.transpose(1, 2, 0).astype(x.dtype)  # (rows, k, L)
    return jnp.where(where[:, None], drawn, x[:, None]).reshape(rows * k, length)


def _invert(uniforms: Array, law: Array) -> Array:
    """Tokens at which the distribution function of a law reaches the uniforms; they have mass themselves."""
    mass = jnp.exp(law.astype(jnp.float64))
    edges = cumulative(mass)
    last = jnp.max(jnp.where(mass > 0, jnp.arange(len(mass)), 0))
    method = "compare_all" if len(mass) <= _SMALL else "scan"
    found = jnp.searchsorted(edges, uniforms * edges[-1], side="right", method=method)
    return jnp.minimum(found, last)


def best_tokens(logits: Array, where: Any, x: Array) -> Array:
    """x with the most likely token at each position of `where`."""
    return jnp.where(where, jnp.argmax(logits, -1).astype(x.dtype), x)


def log_prob(logits: Array, sampling: Sampling, ids: Array, where: Any) -> Array:
    """Sum over `where` of the log-probabilities of `ids`, shape (rows,)."""
    law = warp(logits, sampling)
    log_p = jnp.take_along_axis(law, ids[..., None], -1)[..., 0]
    return jnp.where(where, log_p, 0.0).sum(-1)


def confidences(logits: Array, sampling: Sampling, kind: Confidence, where: Any) -> Array:
    """How sure the law of each position is, nats. Shape (rows, L)."""
    law = warp(logits, sampling)
    if kind == "entropy":
        return jnp.where(law > -jnp.inf, jnp.exp(law) * law, 0.0).sum(-1)
    top = jax.lax.top_k(law, 2)[0]
    return top[..., 0] if kind == "probability" else top[..., 0] - jnp.maximum(top[..., 1], -700)


def masked(x: Array, mask_id: int) -> Array:
    """Positions that are masked."""
    return x == mask_id


def put_mask(x: Array, where: Any, mask_id: int) -> Array:
    """x masked at `where`."""
    return jnp.where(where, jnp.asarray(mask_id, x.dtype), x)


def placed(x: Any, part: slice, new: Any) -> Any:
    """x with `new` at a part of the positions: here all of them."""
    return new


def differs(x: Array, y: Array) -> Array:
    """Positions at which two populations differ."""
    return x != y


def forbid(logits: Array, ids: tuple[int, ...]) -> Array:
    """Logits with some tokens at -inf."""
    return logits.at[..., jnp.asarray(ids)].set(-jnp.inf)


def warp(logits: Array, sampling: Sampling) -> Array:
    """Log-probabilities of the law `sampling`, as `smcgen.text` has it in torch: ties at an edge are all kept."""
    x = logits.astype(jnp.promote_types(logits.dtype, jnp.float32))
    vocab = x.shape[-1]
    if sampling.temperature == 0:
        best = jnp.argmax(x, -1)
        return jnp.where(jnp.arange(vocab) == best[..., None], 0.0, -jnp.inf)
    x = (x - x.max(-1, keepdims=True)) / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < vocab:
        floor = jax.lax.top_k(x, sampling.top_k)[0][..., -1:]
        x = jnp.where(x < floor, -jnp.inf, x)
    x = jax.nn.log_softmax(x)
    if sampling.top_p < 1:
        falling = jnp.sort(x, -1, descending=True)
        last = (jnp.cumsum(jnp.exp(falling), -1) < sampling.top_p).sum(-1, keepdims=True)
        floor = jnp.take_along_axis(falling, jnp.minimum(last, vocab - 1), -1)
        x = jax.nn.log_softmax(jnp.where(x < floor, -jnp.inf, x))
    return x
