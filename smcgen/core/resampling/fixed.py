"""Numbers of resampling: `n W_i` as integers, exact prefix sums, uniform integers.

A float32 sum over 10^7 weights loses whole particles, and `k + u` loses u above 2^23. Doubles are enough, but
their sum depends on the order, and a parallel prefix sum adds in another order for each entry: neighbours differ
by rounding alone, and a particle of weight zero could be drawn. So weights are rounded once, to multiples of
2^-bits copies, and everything after that is exact in integers of 64 bits, in any order, on any device.

All but `random_words` and `double_uniforms` are to be called inside `jax.enable_x64`, also where JAX's default is
single; those two outside of it, for threefry cannot be lowered there (JAX 0.10).
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Float64, Int, Int32, Int64, UInt32

from smcgen.core._types import RandomKey

_SHORT = 64  # so few numbers are summed in no time, and a loop over a batch of them compiles longer


def roomy(n: int) -> int:
    """At least n, and for a long array a multiple of 128: other lengths take XLA's loops four times as long."""
    return n if n < 4096 else -(-n // 128) * 128


def fraction_bits(n: int) -> int:
    """Bits after the point: n copies fit into 62 bits, and a fraction into a double."""
    return min(52, 62 - n.bit_length())


def expected_copies(log_weights: Float[Array, " n"]) -> Int64[Array, " n"]:
    """`n W_i` in units of 2^-bits, of sum n exactly; whole for equal weights, 0 exactly for weight zero.

    What rounding leaves over, less than n / 2 units, is the heaviest particle's; if no weight is positive
    all is the first one's, see `or_none`.
    """
    n = len(log_weights)
    whole = n << fraction_bits(n)
    top = jnp.max(log_weights)
    heaviest = jnp.min(jnp.where(log_weights == top, jnp.arange(n, dtype=jnp.int32), n - 1))
    shift = jnp.where(jnp.isfinite(top), top, 0.0).astype(jnp.float64)
    weights = jnp.exp(log_weights.astype(jnp.float64) - shift)
    total = jnp.sum(weights)
    rounded = jnp.rint(weights * jnp.where(total > 0, whole / total, 0.0)).astype(jnp.int64)
    return rounded.at[heaviest].add(whole - jnp.sum(rounded))


def or_none(log_weights: Float[Array, " n"], ancestors: Int[Array, " m"]) -> Int32[Array, " m"]:
    """Ancestors as they are; -1 if no weight is positive."""
    return jnp.where(jnp.max(log_weights) > -jnp.inf, ancestors, -1).astype(jnp.int32)


def prefix_sum(x: Int[Array, " n"]) -> Int[Array, " n"]:
    """Cumulative sums of integers, in their type.

    On a CPU, one after another: XLA's own takes up to three times the time and is slower to compile.
    """
    plain = partial(jnp.cumsum, dtype=x.dtype)
    if len(x) <= _SHORT:
        return plain(x)
    return lax.platform_dependent(x, cpu=_in_turn, default=plain)


def _in_turn(x: Int[Array, " n"]) -> Int[Array, " n"]:
    # four at a time: XLA makes one function of a loop whose body is short, and 16 were a hundred times slower
    return lax.scan(
        lambda so_far, v: (so_far + v, so_far + v), jnp.zeros((), x.dtype), x, unroll=4
    )[1]


def random_words(key: RandomKey, shape: tuple[int, ...]) -> UInt32[Array, "..."]:
    """Two random words for each entry: what `split` makes keys of. `bits` would hash twice for them."""
    return jax.random.key_data(jax.random.split(key, shape))[..., :2]


def random_bits(key: RandomKey, m: int) -> UInt32[Array, " m"]:
    """m random words, from half as many hashes."""
    pairs = random_words(key, ((m + 1) // 2,))
    # else XLA fuses the hash with what follows, and computes it for each word of a pair
    return lax.optimization_barrier(pairs).reshape(-1)[:m]


def random_fraction(words: UInt32[Array, "*s 2"], bits: int) -> Int64[Array, "*s"]:
    """Uniform integers in [0, 2^bits), bits <= 62."""
    high, low = words[..., 0].astype(jnp.int64), words[..., 1].astype(jnp.int64)
    return ((high << 32 | low) >> (64 - bits)) & ((1 << bits) - 1)


def double_uniforms(key: RandomKey, shape: tuple[int, ...]) -> Float64[Array, "..."]:
    """Uniforms strictly inside (0, 1) with 52 random bits; call it outside `enable_x64`."""
    words = random_words(key, shape)
    with jax.enable_x64(True):
        return as_uniforms(words)


def as_uniforms(words: UInt32[Array, "*s 2"]) -> Float64[Array, "*s"]:
    """Uniforms strictly inside (0, 1) with 52 random bits."""
    # a 53rd bit would leave no room for the half, and round the largest uniform up to 1
    return (random_fraction(words, 52).astype(jnp.float64) + 0.5) * 2.0**-52


def sorted_points(
    words: UInt32[Array, " m"], count: Int[Array, ""] | int, length: Int64[Array, ""] | int
) -> Int64[Array, " m"]:
    """`count < m` uniform points of [0, length), in order; the rest lie beyond, at 2^62.

    Point k is `length (E_0 + ... + E_k) / (E_0 + ... + E_count)` with standard exponentials E: no sorting.
    """
    m = len(words)
    exponential = -jnp.log((words.astype(jnp.float32) + 0.5) * 2.0**-32)  # at most 23
    scale = 2.0 ** (57 - m.bit_length())
    sums = prefix_sum(jnp.rint(exponential.astype(jnp.float64) * scale).astype(jnp.int64))
    at = jnp.floor(sums.astype(jnp.float64) * (length / sums[count]))
    points = jnp.minimum(at.astype(jnp.int64), jnp.asarray(length, jnp.int64) - 1)
    return jnp.where(jnp.arange(m) < count, points, 1 << 62)


def count_upto(points: Int64[Array, " a"], asked: Int64[Array, " b"], n: int) -> Int32[Array, " b"]:
    """`#{k: points_k <= x}` for each x that is asked; both in order, within n copies.

    A table says how many points lie below each whole number, and a search goes through those between two of them: as
    many rounds as the fullest interval needs (four, for 10^6 uniform points), instead of log2(a).
    """
    bits, last = fraction_bits(n), len(points) - 1
    # the last place is for points beyond the end, which no interval is to hold
    above = jnp.clip((points + ((1 << bits) - 1)) >> bits, 0, n + 1).astype(jnp.int32)
    upto = prefix_sum(jnp.zeros(roomy(n + 2), jnp.int32).at[above].add(1, indices_are_sorted=True))
    whole = jnp.clip(asked >> bits, 0, n - 1).astype(jnp.int32)
    low = jnp.where(asked < 0, 0, upto[whole])
    high = jnp.where(asked < 0, 0, upto[whole + 1])
    rounds = 32 - lax.clz(jnp.max(high - low))

    def go_on(i: Array, low: Array) -> Array:
        further = low + (jnp.int32(1) << (rounds - 1 - i))
        right = (further <= high) & (points[jnp.clip(further - 1, 0, last)] <= asked)
        return jnp.where(right, further, low)

    return lax.fori_loop(0, rounds, go_on, low)
