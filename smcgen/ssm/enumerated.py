"""Bayes' rule on a finite state space."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from smcgen.ssm.laws import dist


def posterior(prior: Any, log_g: Callable[[Any], Any]) -> tuple[Any, Any]:
    """`p(k | y) ∝ p(k) g(y | k)` and `log p(y)`; the prior's batch shape is kept.

    Args:
        prior: a `Categorical` of K states.
        log_g: `log g(y | k)` of an array of states, shape (k,).
    """
    logits = jax.nn.log_softmax(prior.logits)
    states = jnp.arange(logits.shape[-1], dtype=jnp.int32)
    joint = logits + log_g(states)
    return dist.CategoricalLogits(joint), jax.nn.logsumexp(joint, axis=-1)
