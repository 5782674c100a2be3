"""Every resampling scheme at 10^3 to 10^6 particles against particles (numba), blackjax and cuthbert.

Each side starts from log-weights, as a filter has them, and ends with ancestors: the JAX libraries in one compiled
call and single precision, particles with its own `exp_and_normalise` in double. Compilation is not in the times.

python benchmarks/resampling.py [--full] [--json]

`--full` measures four times as often.
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

SIZES = (10**3, 10**4, 10**5, 10**6)
BLACKJAX = ("systematic", "stratified", "multinomial", "residual")
CUTHBERT = ("systematic", "multinomial", "killing")


def compiled(draw: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """A call that is over when its ancestors are there."""
    jitted = jax.jit(draw)
    return lambda key, log_weights: jitted(key, log_weights).block_until_ready()


def peers(name: str) -> dict[str, Callable[[Any, Any], Any]]:
    """Ancestors by each library that has the scheme, from a key and log-weights."""
    found = {"smcgen": compiled(SCHEMES[name])}
    found["particles"] = lambda key, log_weights: particles.resampling(
        name, particles.exp_and_normalise(log_weights)
    )
    if name in BLACKJAX:
        scheme = getattr(blackjax, name)
        found["blackjax"] = compiled(lambda key, lw: scheme(key, jax.nn.softmax(lw), len(lw)))
    if name in CUTHBERT:
        scheme_of = getattr(cuthbert, name).resampling
        found["cuthbert"] = compiled(lambda key, lw: scheme_of(key, lw, lw, len(lw))[0])
    return found


def side(draw: Callable[[Any, Any], Any], key: Any, log_weights: Any, calls: int) -> Any:
    """Seconds of one of `calls` calls."""

    def work() -> None:
        for _ in range(calls):
            draw(key, log_weights)

    return lambda: seconds(work) / calls


def main() -> None:
    """Measure and report."""
    options = arguments(__doc__ or "")
    report = Report(
        "Microseconds of one resampling, median, and the peer's time over ours",
        ("scheme, n", "smcgen", "particles", "blackjax", "cuthbert"),
    )
    jax_peer, ratios = 0.0, {}
    for name in SCHEMES:
        draws = peers(name)
        for n in SIZES:
            lw = np.random.default_rng(n).normal(0, 1.5, n).astype(np.float32)
            # from a key that is there: all JAX sides draw their random numbers inside
            key, arrays = jax.random.key(n), {"particles": lw.astype(np.float64)}
            calls = max(1, 10**5 // n)
            sides = [
                side(draw, key, arrays.get(who, jnp.asarray(lw)), calls)
                for who, draw in draws.items()
            ]
            times = alternating(sides, 28 if options.full else 7)
            median = dict(zip(draws, np.median(times, axis=0), strict=True))
            ours = median["smcgen"]
            cells = [f"{1e6 * ours:.0f}"]
            for who in ("particles", "blackjax", "cuthbert"):
                have = who in median
                cells.append(f"{1e6 * median[who]:.0f} ({median[who] / ours:.2f})" if have else "-")
                if have and who != "particles":
                    jax_peer = max(jax_peer, ours / median[who])
            report.row(f"{name}, {n:.0e}", *cells)
            ratios[name, n] = ours / median["particles"]
    for name in SCHEMES:
        worst = max(ratios[name, n] for n in SIZES)
        report.aim(f"{name}, time over particles, worst n", worst, 1.5)
    report.aim("time over the fastest JAX peer, worst case", jax_peer, 1.0)
    report.show(options.json)


if __name__ == "__main__":
    main()
