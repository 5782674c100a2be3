"""Laws of a step: a NumPyro distribution, or several by name.

A law of several variables is a dictionary; an entry may be a function of those drawn before it:

    {"regime": dist.Categorical(P[x["regime"]]),
     "level": lambda new: dist.Normal(rho[new["regime"]] * x["level"], sigma)}

Its values are dictionaries of arrays, the particle axis leading. The distribution of one variable has batch
shape (n,), one law for each particle, or (), the same law for all.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from smcgen.core._types import LogG, PyTree, RandomKey
from smcgen.errors import MissingExtra, ModelError

try:
    import numpyro.distributions as dist
except ImportError as error:
    raise MissingExtra("a state-space model", "numpyro", "ssm") from error

Law = dist.Distribution | Mapping[str, Any]


def draw(law: Law, key: RandomKey, n: int, what: str) -> PyTree:
    """n draws, one for each particle. `what` names the law in errors."""
    if not isinstance(law, Mapping):
        _check(law, n, what)
        return law.sample(key) if law.batch_shape else law.sample(key, (n,))
    values: dict[str, Any] = {}
    keys = jax.random.split(key, len(law))
    for (name, part), k in zip(law.items(), keys, strict=True):
        values[name] = draw(given(part, values), k, n, f"{what}[{name!r}]")
    return values


def log_density(
    law: Law, value: PyTree, n: int, what: str, of_one: Callable[..., Any] | None = None
) -> LogG:
    """Log-density of each particle's value, nats; `of_one(law, value)` is that of one variable."""
    total = jnp.zeros(n)
    for part, x, name in parts(law, value, what):
        _check(part, n, name)
        total = total + (of_one(part, x) if of_one else part.log_prob(x))
    return total


def parts(law: Law, value: PyTree, what: str) -> Iterator[tuple[dist.Distribution, Any, str]]:
    """Each variable's distribution and value, and how to name it."""
    if not isinstance(law, Mapping):
        yield _distribution(law, what), value, what
        return
    if not isinstance(value, Mapping) or set(value) != set(law):
        got = sorted(value) if isinstance(value, Mapping) else type(value).__name__
        raise ModelError(f"{what} has the variables {sorted(law)}; the value given has {got}")
    for name, part in law.items():
        named = f"{what}[{name!r}]"
        yield _distribution(given(part, value), named), value[name], named


def given(part: Any, values: Mapping[str, Any]) -> Any:
    """An entry of a dictionary of laws, given the values before it."""
    return part(values) if callable(part) and not isinstance(part, dist.Distribution) else part


def size(x: PyTree) -> int:
    """How many particles a state has."""
    return jax.tree.leaves(x)[0].shape[0]


def _distribution(law: Any, what: str) -> dist.Distribution:
    if not isinstance(law, dist.Distribution):
        raise ModelError(
            f"{what} is a {type(law).__name__}; expected a numpyro distribution, or a dictionary of them"
        )
    return law


def _check(law: Any, n: int, what: str) -> None:
    batch = _distribution(law, what).batch_shape
    if batch not in ((), (n,)):
        axes = len(batch) - (batch[:1] == (n,))
        hint = f"; .to_event({axes}) makes axes of one variable" if axes else ""
        raise ModelError(
            f"{what} has batch shape {batch}; expected ({n},), one law for each particle, or (){hint}"
        )
