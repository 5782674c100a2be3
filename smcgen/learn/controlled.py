"""Controlled SMC: learn a twist from runs, twist the model, run again."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from smcgen.core import compile as compiling
from smcgen.core._types import PyTree, RandomKey
from smcgen.core.arguments import check_counts, keys_of, settings_of
from smcgen.core.body import Keep, Settings
from smcgen.core.failures import raise_if_failed
from smcgen.core.markov import Markov
from smcgen.core.resampling import Scheme, Transform
from smcgen.core.result import SMCResult
from smcgen.core.smc import smc
from smcgen.errors import InvalidArgument, ModelError, UnknownName
from smcgen.learn.kernels import law_of
from smcgen.learn.lookahead import Lookahead
from smcgen.learn.twisted import Twisted
from smcgen.learn.twists import Learnable, Quadratic, Table, Tilting


@jax.tree_util.register_dataclass
@dataclass(frozen=True, repr=False)
class Controlled:
    """What `controlled_smc` returns.

    Attributes:
        result: the last run, whose twist was learned from the runs before it alone.
        model: the model of that run, with the last twist: `smcgen.smc(c.model, key)` runs it again.
        log_evidences: log Z-hat of the model as it is and after each iteration, shape (iterations + 1,).
        ess: effective sample sizes of these runs, shape (iterations + 1, T + 1).
    """

    result: SMCResult
    model: Any
    log_evidences: Any
    ess: Any

    @property
    def log_evidence(self) -> Any:
        """log Z-hat of the last run."""
        return self.result.log_evidence

    @property
    def twist(self) -> Any:
        """The last twist."""
        return self.model.twist

    def __repr__(self) -> str:
        shown = ", ".join(f"{v:.4g}" for v in np.ravel(np.asarray(self.log_evidences)))
        return f"Controlled(log_evidences=[{shown}], result={self.result!r})"


def controlled_smc(
    model: Markov,
    key: RandomKey | int,
    n_particles: int = 256,
    *,
    twist: Literal["quadratic", "diagonal", "table"] | Learnable = "quadratic",
    iterations: int = 3,
    draws: int = 16,
    resampling: str | Scheme = "systematic",
    ess_threshold: float = 0.5,
    keep: Keep = "ancestors",
    on_error: Literal["raise", "return"] = "raise",
) -> Controlled:
    """Learn a twist by approximate dynamic programming, iterated, and run the twisted model.

    Each iteration runs SMC with the twist there is, then fits a new one backwards at the particles of the run:

        log psi_t ~ log G_t + log M_{t+1}(psi_{t+1})          t = T..0, where kernels can be tilted (`Twisted`)
        log psi_t ~ log M_{t+1}(G_{t+1} psi_{t+1})            t = T-1..0, where they cannot (`Lookahead`),
                                                              the mean over `draws` moves of each particle

    *What is unbiased.* A run is independent of the runs its twist was learned from, given the twist. So each
    `exp(log_evidences[i])` is an unbiased estimate of Z, whatever the fit was worth; so is their mean. Their maximum
    is not, nor is one picked after a look at them, nor any log.

    Args:
        model: for "quadratic" and "diagonal" a model with Gaussian kernels (`Kernels`, or a filter of
            `smcgen.ssm`); for "table" with categorical ones; for a `Network` any traceable `Markov` model.
        key: a JAX key or a seed.
        n_particles: particles of every run; more than the numbers a fit determines at each time.
        twist: the family, or a twist to start from.
        iterations: fits; there is one run more.
        draws: moves of each particle by which a `Lookahead` is learned.
        resampling, ess_threshold, keep, on_error: see `smcgen.smc`; `keep` is for the last run.

    Raises:
        InvalidArgument: an argument is not allowed; too few particles for the fit.
        ModelError: the model's kernels cannot be tilted by this family.
        SMCError: the last run failed.

    Source: Guarniero, Johansen and Lee (2017), algorithm 4; Heng, Bishop, Deligiannidis and Doucet (2020),
        algorithms 2 and 3. Fitting psi anew is refining it where the family is linear in its parameters.
    """
    if not isinstance(model, Markov) or not model.traceable or model.num_problems is not None:
        raise ModelError(
            f"controlled_smc needs a traceable smcgen.Markov model of one problem; {type(model).__name__} is not"
        )
    check_counts(0, iterations=iterations)
    check_counts(draws=draws)
    start = _start(model, twist)
    settings = settings_of(n_particles, resampling, ess_threshold, keep)
    if isinstance(settings.resampler.scheme, Transform):
        allowed = "a scheme with ancestors: potentials are fitted to the pairs that met"
        raise InvalidArgument("resampling", resampling, allowed)
    if start.least_particles() >= n_particles:
        allowed = f"more than the {start.least_particles()} numbers that a {type(start).__name__} fits at each time"
        raise InvalidArgument("n_particles", n_particles, allowed)
    wrapped: Any = (Twisted if isinstance(start, Tilting) else Lookahead)(model, start)
    arguments = jax.random.split(keys_of(key, None), iterations + 1), settings, draws
    inside = compiling.inside_trace()
    run = partial(_iterate, wrapped) if inside else compiling.jitted(_iterate, wrapped, (1, 2))
    result, learned, *seen = run(*arguments)
    if on_error == "raise" and not inside:
        raise_if_failed(result)
    return Controlled(result, replace(wrapped, twist=learned), *seen)


def _start(model: Markov, twist: Any) -> Learnable:
    if isinstance(twist, Learnable):
        return twist
    if twist in ("quadratic", "diagonal"):
        event = law_of(model, 0, None).event_shape
        return Quadratic.flat(model.num_steps, event[0] if event else 1, twist == "diagonal")
    if twist == "table":
        logits = getattr(law_of(model, 0, None), "logits", jnp.zeros(1))  # else `tilt` says why not
        return Table.flat(model.num_steps, logits.shape[-1])
    if isinstance(twist, str):
        raise UnknownName("twist", twist, ("quadratic", "diagonal", "table"))
    raise InvalidArgument("twist", twist, "the name of a family or a smcgen.learn.Learnable twist")


def _iterate(model: Any, keys: Any, settings: Settings, draws: int) -> tuple[Any, ...]:
    """The last result, its twist, and log Z-hat and ESS of all runs."""
    learn: Any = _twisted if isinstance(model, Twisted) else _lookahead
    resampling: Any = settings.resampler.schedule or settings.resampler.scheme
    runs = len(keys)

    def run(model: Any, key: Any) -> SMCResult:
        return smc(
            model,
            key,
            settings.n,
            resampling=resampling,
            ess_threshold=settings.resampler.ess_threshold,
            keep="particles",
            on_error="return",
        )

    def iteration(carry: Any, at: Any) -> tuple[Any, tuple[Any, Any]]:
        (twist, *_), (i, key) = carry, at
        run_key, fit_key = jax.random.split(key)
        present = replace(model, twist=twist)
        result = run(present, run_key)
        fit = lambda: _sound(learn(present, result, fit_key, draws), twist)
        new = jax.lax.cond(i + 1 < runs, fit, lambda: twist)
        return (new, twist, result), (result.log_evidence, result.ess)

    # one compiled run for all iterations: the last result travels along
    shapes = jax.eval_shape(lambda key: run(model, key), keys[0])
    empty = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    begin = (model.twist, model.twist, empty)
    (_, twist, last), seen = jax.lax.scan(iteration, begin, (jnp.arange(runs), keys))
    if settings.keep != "particles":
        last = last.replace(history=None, history_log_weights=None)
    if settings.keep == "summary":
        last = last.replace(ancestors=None)
    return last, twist, *seen


def _sound(new: Any, old: Any) -> Any:
    """The new twist, or the old one if a run that broke has taught nonsense."""
    fine = jnp.all(jnp.array([jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves(new)]))
    return jax.tree.map(lambda a, b: jnp.where(fine, a, b), new, old)


def _twisted(model: Twisted, result: SMCResult, key: Any, draws: int) -> PyTree:
    """The fit of `G_t M_{t+1}(psi_{t+1})` at the particles of a run, backwards."""
    first, later, parents = _populations(result)

    def fit(twist: Any, t: Any, x_prev: Any, x: Any) -> Any:
        ahead = Twisted(model.model, twist).log_ahead(t, x)
        return _fit(twist, t, x, model.model.log_g(t, x_prev, x) + ahead)

    def back(twist: Any, at: Any) -> tuple[Any, None]:
        return fit(twist, *at), None

    times = jnp.arange(1, model.num_steps + 1, dtype=jnp.int32)
    twist, _ = jax.lax.scan(back, model.twist, (times, parents, later), reverse=True)
    return fit(twist, 0, None, first)


def _lookahead(model: Lookahead, result: SMCResult, key: Any, draws: int) -> PyTree:
    """The fit of `M_{t+1}(G_{t+1} psi_{t+1})` at the particles of a run, backwards."""
    inner, last = model.model, model.num_steps

    def back(twist: Any, at: Any) -> tuple[Any, None]:
        t, x, key = at

        def one(key: Any) -> Float[Array, " n"]:
            moved = inner.draw(key, t + 1, x)
            ahead = jnp.where(t + 1 < last, twist(t + 1, moved), 0.0)
            return inner.log_g(t + 1, x, moved) + ahead

        worth = jax.vmap(one)(jax.random.split(key, draws))
        return _fit(twist, t, x, jax.nn.logsumexp(worth, axis=0) - jnp.log(draws)), None

    times = jnp.arange(last, dtype=jnp.int32)
    earlier = jax.tree.map(lambda x: x[:-1], result.history)
    keys = jax.random.split(key, last)
    return jax.lax.scan(back, model.twist, (times, earlier, keys), reverse=True)[0]


def _fit(twist: Any, t: Any, x: PyTree, log_values: Any) -> Any:
    """A fit to the particles whose value is finite: log 0 cannot be fitted, and such particles die anyway."""
    fine = jnp.isfinite(log_values)
    weights = jnp.where(jnp.any(fine), fine, True).astype(log_values.dtype)
    return twist.fitted(t, x, jnp.where(fine, log_values, 0.0), weights)


def _populations(result: SMCResult) -> tuple[PyTree, PyTree, PyTree]:
    """Populations at time 0, at times 1..T, and the parents of these."""
    take = jax.vmap(lambda x, a: x[a])
    return (
        jax.tree.map(lambda x: x[0], result.history),
        jax.tree.map(lambda x: x[1:], result.history),
        jax.tree.map(lambda x: take(x[:-1], result.ancestors), result.history),
    )
