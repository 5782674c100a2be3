"""SSP resampling: Srinivasan's sampling process, played as a tournament."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int32

from smcgen.core._types import RandomKey
from smcgen.core.resampling.base import double_uniforms, from_counts, scaled_weights


@dataclass(frozen=True)
class SSP:
    """`floor(n W_i)` copies plus 0 or 1, the extra copies drawn by pairwise (pivotal) sampling.

    Two particles with fractions a, b play: if `a + b < 1` one takes the sum and the other gets nothing;
    otherwise one gets a copy and the other keeps `a + b - 1`. The probabilities keep each expectation, and the
    counts are negatively associated. Played in log2(n) parallel rounds instead of one after the
    other, which changes the pairs and none of the properties. Srinivasan (2001); Gerber, Chopin and
    Whiteley (2019), algorithm 2; Dubhashi, Jonasson and Ranjan (2007) for tournaments.
    """

    def __call__(self, key: RandomKey, log_weights: Float[Array, " n"]) -> Int32[Array, " n"]:
        n = log_weights.shape[0]
        rounds = max(n - 1, 0).bit_length()
        uniforms = double_uniforms(key, (2**rounds,))  # round r uses the r-th dyadic block
        with jax.enable_x64(True):
            weights = scaled_weights(log_weights)
            floor = jnp.floor(weights)
            fraction = jnp.pad(weights - floor, (0, 2**rounds - n))
            player = jnp.arange(2**rounds, dtype=jnp.int32)
            extra = jnp.zeros(2**rounds, jnp.int32)
            for _ in range(rounds):
                a, b = fraction[0::2], fraction[1::2]
                total, u = a + b, uniforms[a.shape[0] : 2 * a.shape[0]]
                merge = total <= 1
                first_wins = jnp.where(merge, u * total < a, u * (2 - total) < 1 - b)
                # merge: the winner goes on with the sum. otherwise: the winner has its copy and is done
                first_goes_on = first_wins == merge
                done = jnp.where(first_goes_on, player[1::2], player[0::2])
                extra = extra.at[done].set(jnp.where(merge, 0, 1).astype(jnp.int32))
                player = jnp.where(first_goes_on, player[0::2], player[1::2])
                fraction = jnp.where(merge, total, total - 1)
            extra = extra.at[player].set(jnp.round(fraction).astype(jnp.int32))
            return from_counts(floor.astype(jnp.int32) + extra[:n], weights)
