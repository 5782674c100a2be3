"""Evidence and weighted expectations: unbiased at every number of particles."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import numpy as np

from smcgen.core.arguments import keys_of
from smcgen.core.feynman_kac import Model
from smcgen.core.resolve import resolve
from smcgen.core.result import SMCResult
from smcgen.core.smc import smc
from smcgen.errors import InvalidArgument
from smcgen.testing.laws import Verdict, mean_is, same_mean

Statistic = Callable[[SMCResult], Any]


def replicate(
    model: Model,
    key: Any,
    runs: int,
    statistic: Callable[[SMCResult], Any],
    **options: Any,
) -> Any:
    """`statistic(result)` of independent runs, leading axis runs: one `vmap` of a traceable model, else a loop."""
    if runs < 2:
        raise InvalidArgument("runs", runs, "an integer >= 2")
    keys = jax.random.split(keys_of(key, None), runs)
    one = lambda key: statistic(smc(model, key, on_error="return", **options))
    if resolve(model).traceable:
        return jax.tree.map(np.asarray, jax.jit(jax.vmap(one))(keys))
    return jax.tree.map(lambda *x: np.stack([np.asarray(v) for v in x]), *[one(k) for k in keys])


def check_unbiased(
    model: Model,
    log_z: float,
    expectations: Mapping[str, tuple[Statistic, float]] | None = None,
    *,
    key: Any = 0,
    runs: int = 2000,
    n_particles: int = 8,
    **options: Any,
) -> list[Verdict]:
    """Check `E[Z-hat] = Z` and, for each statistic f, `E[Z-hat (f-hat - pi(f))] = 0`.

    Both hold for every number of particles; f-hat alone is biased, and no test. Few particles in many runs
    say more than many in few.

    Args:
        model: one problem.
        log_z: the exact log-evidence.
        expectations: by name, a statistic of the result (`lambda r: r.expectation(f)`, a number) and its exact value.
        key: a JAX key or a seed.
        runs: independent runs.
        n_particles, **options: see `smcgen.smc`.

    Returns:
        A `Verdict` for each law.

    Raises:
        LawBroken: a p-value is below one in a million.
    """
    expectations = dict(expectations or {})

    def statistic(result: SMCResult) -> Any:
        return result.log_evidence, {k: f(result) for k, (f, _) in expectations.items()}

    found, values = replicate(model, key, runs, statistic, n_particles=n_particles, **options)
    z = np.exp(np.asarray(found, np.float64) - log_z)
    verdicts = [mean_is(z, 1.0, "E[Z-hat] / Z").checked()]
    for name, (_, exact) in expectations.items():
        value = np.where(z > 0, np.asarray(values[name], np.float64) - exact, 0.0)
        verdicts.append(mean_is(z * value, 0.0, f"E[Z-hat ({name} - exact)]").checked())
    return verdicts


def check_twist_consistency(
    models: Sequence[Model],
    statistics: Mapping[str, Statistic] | None = None,
    *,
    key: Any = 0,
    runs: int = 2000,
    n_particles: int = 8,
    **options: Any,
) -> list[Verdict]:
    """Check that models which differ in twist, proposal or potentials on the way have one target.

    Compares `E[Z-hat]` and `E[Z-hat f-hat]` of each model with those of the first, without knowing them.

    Args:
        models: the same target, guided in different ways.
        statistics: by name, statistics f of the result (`lambda r: r.expectation(f)`).
        key, runs, n_particles, **options: as `check_unbiased`.

    Returns:
        A `Verdict` for each model but the first and each law.

    Raises:
        LawBroken: a p-value is below one in a million.
    """
    if len(models) < 2:
        raise InvalidArgument("models", len(models), "at least two")
    statistics = dict(statistics or {})

    def statistic(result: SMCResult) -> Any:
        return result.log_evidence, {k: f(result) for k, f in statistics.items()}

    keys = jax.random.split(keys_of(key, None), len(models))
    found = [
        replicate(model, k, runs, statistic, n_particles=n_particles, **options)
        for model, k in zip(models, keys, strict=True)
    ]
    top = max(float(np.max(log_z)) for log_z, _ in found)
    z = [np.exp(np.asarray(log_z, np.float64) - top) for log_z, _ in found]
    verdicts = []
    for i in range(1, len(models)):
        verdicts.append(same_mean(z[0], z[i], f"E[Z-hat] of models 0 and {i}").checked())
        for name in statistics:
            a, b = (
                np.where(z[j] > 0, z[j] * np.asarray(found[j][1][name], np.float64), 0.0)
                for j in (0, i)
            )
            verdicts.append(same_mean(a, b, f"E[Z-hat {name}] of models 0 and {i}").checked())
    return verdicts
