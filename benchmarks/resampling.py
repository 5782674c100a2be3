"""Every resampling scheme at 10^3 and 10^6 particles against particles (numba), blackjax and cuthbert.

Each side starts from log-weights, as a filter has them, and ends with ancestors: the JAX libraries in single precision
and inside a compiled loop, as in a filter; particles with its own `exp_and_normalise` in double, in a Python loop.
"One call" is a call of ours from Python: it waits for its dispatch, and for fresh memory from the operating system
(12 000 page faults at n = 10^6), which a loop has once. Compilation is not in the times.

python benchmarks/resampling.py [--full] [--json]

`--full` has 10^4 and 10^5 too, and measures four times as often: most of the time goes into compiling.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import blackjax.smc.resampling as blackjax
import cuthbertlib.resampling as cuthbert
import jax
import jax.numpy as jnp
import numpy as np
import particles.resampling as particles

from benchmarks._report import Report, alternating, arguments, seconds
from smcgen.resampling import SCHEMES

SIZES, ALL_SIZES = (10**3, 10**6), (10**3, 10**4, 10**5, 10**6)
BLACKJAX = ("systematic", "stratified", "multinomial", "residual")
CUTHBERT = ("systematic", "multinomial", "killing")


def looped(draw: Callable[[Any, Any], Any], calls: int) -> Callable[[Any, Any], Any]:
    """So many resamplings in one program; over when the last ancestors are there."""

    @jax.jit
    def run(key: Any, lw: Any) -> Any:
        def step(i: Any, before: Any) -> Any:
            own = lw + 1e-6 * i  # other weights each time: nothing to hoist
            return draw(jax.random.fold_in(key, i), own).astype(before.dtype)

        return jax.lax.fori_loop(0, calls, step, jnp.zeros(len(lw), jnp.int32))

    return lambda key, lw: run(key, lw).block_until_ready()


def peers(name: str, calls: int) -> dict[str, Callable[[Any, Any], Any]]:
    """`calls` resamplings by each library that has the scheme, from a key and log-weights."""
    one = jax.jit(SCHEMES[name])
    found: dict[str, Any] = {"smcgen": looped(SCHEMES[name], calls)}
    found["one call"] = lambda key, lw: [one(key, lw).block_until_ready() for _ in range(calls)]
    found["particles"] = lambda key, lw: [
        particles.resampling(name, particles.exp_and_normalise(lw)) for _ in range(calls)
    ]
    if name in BLACKJAX:
        scheme = getattr(blackjax, name)
        found["blackjax"] = looped(lambda key, lw: scheme(key, jax.nn.softmax(lw), len(lw)), calls)
    if name in CUTHBERT:
        scheme_of = getattr(cuthbert, name).resampling
        found["cuthbert"] = looped(lambda key, lw: scheme_of(key, lw, lw, len(lw))[0], calls)
    return found


def side(draw: Callable[[Any, Any], Any], key: Any, log_weights: Any, calls: int) -> Any:
    """Seconds of one of `calls` resamplings."""
    return lambda: seconds(lambda: draw(key, log_weights)) / calls


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__ or "")
    report = Report(
        "Microseconds of one resampling, median, and the peer's time over ours",
        ("scheme, n", "smcgen", "one call", "particles", "blackjax", "cuthbert"),
    )
    jax_peer, ratios = 0.0, {}
    sizes = ALL_SIZES if options.full else SIZES
    for name in SCHEMES:
        for n in sizes:
            calls = max(4, 10**5 // n)
            draws = peers(name, calls)
            lw = np.random.default_rng(n).normal(0, 1.5, n).astype(np.float32)
            # from a key that is there: all JAX sides draw their random numbers inside
            key, arrays = jax.random.key(n), {"particles": lw.astype(np.float64)}
            sides = [
                side(draw, key, arrays.get(who, jnp.asarray(lw)), calls)
                for who, draw in draws.items()
            ]
            times = alternating(sides, 28 if options.full else 7)
            median = dict(zip(draws, np.median(times, axis=0), strict=True))
            ours = median["smcgen"]
            cells = [f"{1e6 * ours:.0f}"]
            for who in ("one call", "particles", "blackjax", "cuthbert"):
                have = who in median
                cells.append(f"{1e6 * median[who]:.0f} ({median[who] / ours:.2f})" if have else "-")
                if have and who in ("blackjax", "cuthbert"):
                    jax_peer = max(jax_peer, ours / median[who])
            report.row(f"{name}, {n:.0e}", *cells)
            ratios[name, n] = ours / median["particles"]
    for name in SCHEMES:
        worst = max(ratios[name, n] for n in sizes)
        report.aim(f"{name}, time over particles, worst n", worst, 1.5)
    report.aim("time over the fastest JAX peer, worst case", jax_peer, 1.0)
    report.show(options.json)


if __name__ == "__main__":
    main()
