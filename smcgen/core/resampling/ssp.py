"""SSP resampling: Srinivasan's sampling process, played as a tournament."""

from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Float64, Int, Int32, Int64

from smcgen.core._types import RandomKey
from smcgen.core.resampling.fixed import (
    double_uniforms,
    expected_copies,
    fraction_bits,
    or_none,
)
from smcgen.core.resampling.slots import a_copy, first_slot, from_counts, whole_and_fraction


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
        uniforms = double_uniforms(key, (_players(len(log_weights)),))
        with jax.enable_x64(True):
            counts = tournament(expected_copies(log_weights), uniforms)
            return or_none(log_weights, from_counts(counts))

    def conditional(
        self, key: RandomKey, log_weights: Float[Array, " n"], pinned: Int[Array, ""]
    ) -> Int32[Array, " n"]:
        """Whether b has its extra copy is drawn first, biased by its number of copies; b's matches, given that.

        With `c = floor(n W_b)` and `f = n W_b - c` it has it with probability `f (c + 1) / (n W_b)`. The fractions
        with which matches are played do not depend on who plays, so b's matches are a Markov chain
        whose law given its end is a ratio of two probabilities; those of the others stay as they are.
        """
        n, players = len(log_weights), _players(len(log_weights))
        turn_key, key = jax.random.split(key)
        turn = jax.random.randint(turn_key, (), 0, n, jnp.int32)
        uniforms = double_uniforms(key, (players + 2,))
        with jax.enable_x64(True):
            copies, here = expected_copies(jnp.roll(log_weights, turn)), (pinned + turn) % n
            whole, rest = whole_and_fraction(copies, fraction_bits(n))
            extra = uniforms[players] * copies[here] < rest[here] * (whole[here] + 1.0)
            sure = _Outcome(here, extra)
            ancestors = from_counts(tournament(copies, uniforms[:players], sure))
            slot = a_copy(ancestors, uniforms[players + 1], here)
            return or_none(log_weights, first_slot((ancestors - turn) % n, slot, pinned))


class _Outcome(NamedTuple):
    """A particle, and whether it gets an extra copy."""

    particle: Int[Array, ""]
    extra: Bool[Array, ""]


def _players(n: int) -> int:
    """A power of two."""
    return 2 ** max(n - 1, 0).bit_length()


def tournament(
    copies: Int64[Array, " n"], uniforms: Float64[Array, " m"], sure: _Outcome | None = None
) -> Int32[Array, " n"]:
    """Offspring counts; with `sure`, given that this particle ends so."""
    n, size, bits = len(copies), len(uniforms), fraction_bits(len(copies))
    whole, rest = whole_and_fraction(copies, bits)
    fraction = jnp.pad(
        rest.astype(jnp.float64) * 2.0**-bits, (0, size - n)
    )  # exact, as are its sums
    plays, rounds = jnp.bool_(True), []
    for number in range(size.bit_length() - 1):
        a, b = fraction[0::2], fraction[1::2]
        total, u = a + b, uniforms[a.shape[0] : 2 * a.shape[0]]  # round r: the r-th dyadic block
        merge = total <= 1
        first_wins = jnp.where(merge, u * total < a, u * (2 - total) < 1 - b)
        if sure is not None:
            seat = sure.particle >> number
            chance = _chance(fraction[seat], fraction[seat ^ 1], sure.extra)
            match, is_first = seat >> 1, seat % 2 == 0
            wins = u[match] < jnp.where(is_first, chance, 1 - chance)
            first_wins = first_wins.at[match].set(jnp.where(plays, wins, first_wins[match]))
            plays &= (first_wins[match] == is_first) == merge[match]
        # merge: the winner goes on with the sum. otherwise: the winner has its copy and is done
        rounds.append((first_wins == merge, jnp.where(merge, 0, 1).astype(jnp.int32)))
        fraction = jnp.where(merge, total, total - 1)
    extra = fraction.astype(jnp.int32)  # the last player's, 0 or 1; back to the seats it came from:
    for first_goes_on, others in reversed(rounds):
        pair = jnp.where(first_goes_on, extra, others), jnp.where(first_goes_on, others, extra)
        extra = jnp.stack(pair, axis=1).reshape(-1)
    return whole + extra[:n]


def _chance(
    own: Float64[Array, ""], other: Float64[Array, ""], extra: Bool[Array, ""]
) -> Float64[Array, ""]:
    """Probability to win against `other`, given that one ends with an extra copy, or without."""
    total = own + other
    tiny = jnp.finfo(own.dtype).tiny
    copy_now = (1 - other) / jnp.maximum((2 - total) * own, tiny)  # P(win) / P(extra)
    go_on = (
        own * (1 - total) / jnp.maximum(total * (1 - own), tiny)
    )  # P(win, no extra) / P(no extra)
    return jnp.where(total <= 1, jnp.where(extra, 1.0, go_on), jnp.where(extra, copy_now, 0.0))
