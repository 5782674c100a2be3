"""Whether a model's laws are laws at its parameters: what NumPyro's constraints say of times 0 and 1, before a run.

Under `jit` NumPyro checks nothing, and a negative scale draws as well as a positive one.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpyro.distributions import constraints
from numpyro.distributions.distribution import validation_enabled

from smcgen.core._types import PyTree
from smcgen.core.compile import inside_trace
from smcgen.errors import InvalidArgument
from smcgen.ssm.inputs import Inputs
from smcgen.ssm.laws import Law, dist, draw, parts

_WORDS = (
    (constraints.positive, "a number > 0"),
    (constraints.real, "a finite number"),
    (constraints.simplex, "probabilities of sum 1"),
    (constraints.unit_interval, "a number in [0, 1]"),
)
_ROUNDING = 1e-3  # by which a sum of probabilities may differ from 1 in single precision


class _Broken(NamedTuple):
    """A parameter that breaks its constraint."""

    law: str
    name: str
    value: Any
    constraint: Any


def check_finite(model: Any) -> None:
    """Raise `InvalidArgument` unless a model's parameters are finite numbers, as far as they are known."""
    is_inputs = lambda x: isinstance(x, Inputs)
    for path, leaf in jax.tree_util.tree_leaves_with_path(model, is_leaf=is_inputs):
        if is_inputs(leaf) or isinstance(leaf, Tracer):
            continue
        values = np.asarray(leaf)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            name = "model" + jax.tree_util.keystr(path)
            raise InvalidArgument(name, leaf, "finite numbers")


def check_laws(model: Any, num_steps: int, drawn: bool = False) -> None:
    """Raise `InvalidArgument` if a law of time 0 or 1 has a parameter that breaks its constraint.

    Two draws of the state are tried. A model that is being traced has no numbers to look at. What is only
    drawn from may have the scale 0: a move (the companion form of a longer memory), and with `drawn` an observation.
    """
    known = not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(model))
    if not known or inside_trace():
        return
    key, zero, one = jax.random.key(0), jnp.int32(0), jnp.int32(1)
    with validation_enabled(False):  # NumPyro's own error would not say where
        start = model.initial()
        x = draw(start, key, 2, "initial()")
        _check(start, x, "initial()", still=True)
        if num_steps:
            _check(model.transition(one, x), None, "transition(t, x_prev)", still=True)
        _check(model.observation(zero, x), None, "observation(t, x)", still=drawn)


def _check(law: Law, value: PyTree, what: str, still: bool) -> None:
    if value is None and not isinstance(law, dist.Distribution):  # an entry may depend on others
        value = draw(law, jax.random.key(1), 2, what)
    for part, _, name in parts(law, value, what):
        for found in _broken(part, still):
            words = [words for known, words in _WORDS if known is found.constraint]
            allowed = words[0] if words else repr(found.constraint)
            raise InvalidArgument(f"{found.name} of {found.law} in {name}", found.value, allowed)


def _broken(law: Any, still: bool) -> Iterator[_Broken]:
    """Parameters of a law and of those it is made of that break their constraints."""
    for name, value in law.get_args().items():
        constraint = law.arg_constraints[name]
        if constraints.is_dependent(constraint) or isinstance(value, Tracer):
            continue
        values = np.asarray(value)
        fine = np.broadcast_to(_fine(constraint, name, values, still), values.shape)
        if not fine.all():
            yield _Broken(type(law).__name__, name, values[~fine].flat[0].item(), constraint)
    for inner in jax.tree.leaves(list(vars(law).values()), is_leaf=_is_law):
        if _is_law(inner):
            yield from _broken(inner, still)


def _is_law(x: Any) -> bool:
    return isinstance(x, dist.Distribution)


def _fine(constraint: Any, name: str, values: np.ndarray, still: bool) -> Any:
    """Which values are allowed; what may be meant (a logit of -inf) or be rounding is."""
    if constraint is constraints.simplex:
        total = values.sum(-1, keepdims=True)
        return (values >= 0) & (np.abs(total - 1) < _ROUNDING)
    if constraint.event_dim or name == "logits":
        return ~np.isnan(values)
    if constraint is constraints.unit_interval:
        return np.abs(values - 0.5) <= 0.5 + _ROUNDING
    fine = np.asarray(constraint(values))
    return fine | (values == 0) if still and constraint is constraints.positive else fine


def support_of(law: Any) -> Any:
    """The constraint that one number of a law obeys, if it is the same whatever the state is; else None."""
    support = law.support
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support is None or constraints.is_dependent(support) or support.event_dim:
        return None
    same = all(isinstance(bound, int | float) for bound in jax.tree.leaves(support))
    return support if same else None


def check_numbers(value: Any, name: str, support: Any, law: str) -> None:
    """Raise `InvalidArgument` if an observation is infinite, or outside a law's support. NaN is missing."""
    if isinstance(value, Tracer):
        return
    seen = np.asarray(value)
    wrong, allowed = np.isinf(seen), "a finite number, or NaN where one is missing"
    if not wrong.any() and support is not None:
        wrong = ~np.isnan(seen) & ~np.asarray(support(seen))
        allowed = f"a number that {law} can give: {support!r}"
    if wrong.any():
        place = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
        where = ", ".join(str(int(i)) for i in place)
        raise InvalidArgument(f"{name}[{where}]", seen[place].item(), allowed)
