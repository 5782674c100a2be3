"""Particle Gibbs: a Markov chain of paths whose every step is a conditional particle filter.

    x' ~ K(x, .):   run conditional SMC along x,  pick a path from it

leaves pi(x_{0:T}) ∝ prod_t G_t M_t invariant for every number of particles n >= 2 (Andrieu, Doucet and Holenstein
2010). How the new path is picked decides how well the chain mixes at early times:

* `rejuvenate=None`: by its genealogy. Needs n of the order of T.
* `"ancestor"`: the reference's future gets a new past at each resampling (Lindsten, Jordan and Schön 2014). Needs
  `log_continue`; works for models that remember everything, such as texts.
* `"backward"`: each ancestor is drawn anew from the history (Whiteley 2010; Lindsten and Schön 2012). Needs
  `log_transition`.

Several chains may help each other: with `n_unconditional` filters run beside them, a chain may move to one of their
paths (interacting particle MCMC, Rainforth et al. 2016).
"""

from collections.abc import Callable
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.arguments import check_counts, keys_of, settings_of
from smcgen.core.backward import transition_of
from smcgen.core.chains import Chains, collect, starting_from
from smcgen.core.compile import inside_trace, jitted
from smcgen.core.conditional import check_pinnable, check_reference
from smcgen.core.resampling import Scheme, conditional
from smcgen.core.resolve import resolve
from smcgen.core.status import SMCError, SMCInterrupted
from smcgen.core.sweep import HostSweeps, Plan, Sweep, TracedSweeps
from smcgen.errors import InvalidArgument, ModelError, UnknownName

Rejuvenate = Literal["ancestor", "backward"] | None


def particle_gibbs(
    model: Any,
    key: RandomKey | int,
    n_samples: int = 1000,
    n_particles: int = 32,
    *,
    reference: PyTree = None,
    rejuvenate: Rejuvenate = "ancestor",
    n_chains: int = 1,
    n_unconditional: int = 0,
    n_warmup: int = 0,
    thin: int = 1,
    resampling: str | Scheme = "systematic",
    ess_threshold: float = 1.0,
    on_error: Literal["raise", "return"] = "raise",
    progress: bool = False,
    callback: Callable[[int, Chains], None] | None = None,
) -> Chains:
    """Sample paths from the target of a Feynman-Kac model by particle Gibbs.

    Args:
        model: it can be pinned (a `Markov` model, a `TextModel`, a diffusion model); one problem.
        key: a JAX key or a seed; fixes all chains.
        n_samples: paths kept of each chain.
        n_particles: particles of each sweep, the reference included.
        reference: where the chains start: one path for all, a path for each (chains leading; a list of paths), or
            `Chains` to go on from; None: paths picked from unconditional filters.
        rejuvenate: "ancestor", "backward" or None; see above.
        n_chains: chains.
        n_unconditional: filters beside the chains, to whose paths they may move.
        n_warmup: sweeps before the first that is kept.
        thin: sweeps for each path kept.
        resampling: a scheme with a conditional law, or its name.
        ess_threshold: resample when ESS falls below this fraction of n.
        on_error: "raise" when a filter failed, or "return" the chains: of a traceable model all of them, with the
            status of each draw; else those before it.
        progress: show a progress bar.
        callback: called after each kept path with its number and the chains so far.

    Returns:
        `Chains`: paths with leading axes (chain, draw), how often each time's state moved, the evidence of
        each sweep, and exports to ArviZ.

    Raises:
        InvalidArgument, ModelError: as `conditional_smc`.
        SMCError: a filter failed (`.result`; of a model that is not traceable, `.chains` are those before it).
        SMCInterrupted: Ctrl-C; `.result` has the chains so far.
    """
    plan = plan_of(model, n_particles, rejuvenate, n_unconditional, resampling, ess_threshold)
    check_counts(n_samples=n_samples, n_chains=n_chains, thin=thin)
    check_counts(least=0, n_warmup=n_warmup)
    lengths = (int(n_samples), int(n_warmup), int(thin))
    key = keys_of(key, None)
    if on_error not in ("raise", "return"):
        raise UnknownName("on_error", on_error, ("raise", "return"))
    given = reference is not None and not isinstance(reference, Chains)
    if given and check_reference(model, reference, plan.settings.n, int(n_chains)):
        reference = starting_from(reference, int(n_chains))
    traceable = resolve(model).traceable
    if traceable and not (progress or callback):
        if inside_trace():
            return _scan(model, key, reference, plan, n_chains, lengths)
        run = jitted(_scan, model, static=(2, 3, 4))
        chains = run(key, reference, plan, n_chains, lengths)
        return chains.checked() if on_error == "raise" else chains
    sweeps = (TracedSweeps if traceable else HostSweeps)(model, plan)
    return _by_hand(sweeps, key, reference, n_chains, lengths, on_error, progress, callback)


def _scan(
    model: Any, key: Any, reference: Any, plan: Plan, n_chains: int, lengths: tuple[int, int, int]
) -> Chains:
    n_samples, n_warmup, thin = lengths
    sweeps = TracedSweeps(model, plan)
    start_key, key = jax.random.split(key)
    paths = sweeps.start(start_key, reference, n_chains)

    def draw(paths: Any, turn: tuple[Any, Any]) -> tuple[Any, Sweep]:
        i, number = turn
        sweep = sweeps.advance(jax.random.fold_in(key, i), paths, number)
        return sweep.paths, sweep

    # the warm-up is a draw that is not kept: the sweep is compiled once
    numbers = jnp.full(n_samples + 1, thin).at[0].set(n_warmup)
    _, kept = jax.lax.scan(draw, paths, (jnp.arange(n_samples + 1), numbers))
    return collect(jax.tree.map(lambda x: x[1:], kept))


def _by_hand(
    sweeps: TracedSweeps | HostSweeps,
    key: Any,
    reference: Any,
    n_chains: int,
    lengths: tuple[int, int, int],
    on_error: str,
    progress: bool,
    callback: Callable[[int, Chains], None] | None,
) -> Chains:
    """The same in a Python loop: watched, interrupted, or over a model that is not traceable."""
    from smcgen.progress import counted

    n_samples, n_warmup, thin = lengths
    start_key, key = jax.random.split(key)
    kept: list[Sweep] = []
    try:
        paths = sweeps.start(start_key, reference, n_chains)
        if n_warmup:
            paths = sweeps.advance(jax.random.fold_in(key, 0), paths, n_warmup).paths
        for i in counted(n_samples, "particle Gibbs", progress):
            kept.append(sweeps.advance(jax.random.fold_in(key, i + 1), paths, thin))
            paths = kept[-1].paths
            if callback:
                callback(i, collect(kept))
    except KeyboardInterrupt as interrupt:
        if not kept:
            raise
        message = (
            f"interrupted after {len(kept)} of {n_samples} draws; .result has the chains so far"
        )
        raise SMCInterrupted(message, collect(kept)) from interrupt
    except Exception as error:  # a model, reward or callback failed: nothing is lost
        if not kept:
            raise
        if on_error == "return" and isinstance(error, SMCError):
            return collect(kept)
        error.add_note(f"after {len(kept)} of {n_samples} draws; error.chains has them")
        error.chains = collect(kept)  # pyright: ignore[reportAttributeAccessIssue]
        raise
    chains = collect(kept)
    return chains.checked() if on_error == "raise" else chains


def plan_of(
    model: Any, n: Any, rejuvenate: Any, n_unconditional: Any, resampling: Any, ess_threshold: Any
) -> Plan:
    """A sweep's plan, checked.

    Raises:
        InvalidArgument, ModelError: an argument is not allowed; the model cannot be pinned.
    """
    if rejuvenate not in (None, "ancestor", "backward"):
        raise UnknownName("rejuvenate", rejuvenate, ("ancestor", "backward", "None"))
    if not isinstance(n_unconditional, int | np.integer) or n_unconditional < 0:
        raise InvalidArgument("n_unconditional", n_unconditional, "an integer >= 0")
    check_pinnable(model, ancestor_sampling=rejuvenate == "ancestor")
    if rejuvenate == "backward":
        transition_of(model)
    if resolve(model).num_problems is not None:
        raise ModelError(
            f"{type(model).__name__} has several problems: run particle Gibbs on one of them at a time"
        )
    settings = settings_of(n, resampling, ess_threshold, "particles", rejuvenate == "ancestor")
    conditional(settings.resampler.scheme)
    if settings.n < 2:
        raise InvalidArgument("n_particles", n, "an integer >= 2: one particle is the reference")
    return Plan(settings, rejuvenate == "backward", int(n_unconditional))
