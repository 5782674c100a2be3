"""What can be known of a model and its observations before a run: shapes, missing values, bad numbers."""

from collections.abc import Mapping
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from numpyro.distributions.distribution import validation_enabled

from smcgen.core import compile as compiling
from smcgen.core._types import PyTree
from smcgen.errors import InvalidArgument, ModelError
from smcgen.ssm.inputs import check_inputs
from smcgen.ssm.laws import draw, parts
from smcgen.ssm.missing import Missing, marginalises
from smcgen.ssm.model import StateSpaceModel
from smcgen.ssm.validity import check_finite, check_laws, check_numbers, support_of

_N = 10007  # a number of particles that no other axis has; nothing is computed with it


class Series(NamedTuple):
    """Observations as arrays, whether there are several series, and what is missing."""

    y: PyTree
    several: bool
    missing: Missing


class _Variable(NamedTuple):
    """One observed variable."""

    name: str
    shape: tuple[int, ...]
    discrete: bool
    marginalises: bool
    support: Any  # of one number, if it is the same for all states; else None


def check_model(model: Any) -> None:
    """Raise unless `model` is a state-space model whose parameters are finite numbers, as far as they are known."""
    if not isinstance(model, StateSpaceModel):
        raise ModelError(
            f"{type(model).__name__} is not a state-space model: "
            "inherit from smcgen.ssm.StateSpaceModel and give initial, transition and observation"
        )
    check_finite(model)


def examine(model: StateSpaceModel, y: Any, several: bool | None = None) -> Series:
    """Check a model and observations of it; find out whether there are several series and what they miss."""
    variables: dict[Any, _Variable] = {}  # None names the only one
    program, arrays = compiling.split(model)

    def shapes(arrays: Any, key: Any, t: Any) -> Any:
        model = program.model(arrays)
        x = draw(model.initial(), key, _N, "initial()")
        law = model.observation(t, x)
        seen = draw(law, key, _N, "observation(t, x)")
        keys = law if isinstance(law, Mapping) else [None]
        for key, (part, _, name) in zip(keys, parts(law, seen, "observation(t, x)"), strict=True):
            about = part.is_discrete, marginalises(part), support_of(part)
            variables[key] = _Variable(name, part.event_shape, *about)
        return seen

    with validation_enabled(False):  # what is wrong with parameters is said by `check_laws`
        seen = jax.eval_shape(shapes, arrays, jax.random.key(0), jnp.int32(0))
    if isinstance(seen, Mapping) != isinstance(y, Mapping) or (
        isinstance(seen, Mapping) and set(seen) != set(y)
    ):
        wanted = f"a dictionary of {sorted(seen)}" if isinstance(seen, Mapping) else "one array"
        got = sorted(y) if isinstance(y, Mapping) else type(y).__name__
        raise InvalidArgument("y", got, wanted)
    values = {name: _array(y if name is None else y[name], name) for name in variables}
    axes = set()
    missing: set[Missing] = set()
    for name, value in values.items():
        axes.add(_leading(value, name, variables[name]))
        check_numbers(value, _named(name), variables[name].support, variables[name].name)
        missing.add(_missing(value, name, variables[name]))
    if len(axes) > 1:
        got = {name: value.shape for name, value in values.items()}
        raise InvalidArgument("y", got, "the same times for every variable")
    (leading,) = axes
    _check_several(several, leading, values)
    check_inputs(model, leading[-1], "as there are observations")
    check_laws(model, leading[-1] - 1)
    worst = max(missing, key=get_args(Missing).index)
    return Series(values.get(None, values), len(leading) == 2, worst)


def check_moves(model: Any) -> None:
    """Raise unless a filter's moves keep the kind of state that time 0 has. Nothing is computed."""
    program, arrays = compiling.split(model)
    problems = model.num_problems
    key = jax.random.key(0) if problems is None else jax.random.split(jax.random.key(0), problems)

    def run(arrays: Any, key: Any, t: Any) -> Any:
        model = program.model(arrays)
        x, _ = model.init(key, _N)
        return x, *model.step(key, t, x)

    before, after, _ = jax.eval_shape(run, arrays, key, jnp.int32(1))
    kind = lambda x: jax.tree.map(lambda a: f"{a.dtype}{list(a.shape)}", x)
    if kind(before) != kind(after):
        shown = lambda x: str(kind(x)).replace(str(_N), "n").replace("'", "")
        raise ModelError(
            f"a step must keep the kind of state: time 0 has {shown(before)}, time 1 has {shown(after)}"
        )


def _array(value: Any, name: str | None) -> Any:
    try:
        array = jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise InvalidArgument(_named(name), type(value).__name__, "an array of numbers") from error
    if jnp.issubdtype(array.dtype, jnp.complexfloating):
        raise InvalidArgument(_named(name), str(array.dtype), "real numbers")
    return array


def _check_several(
    several: bool | None, leading: tuple[int, ...], values: Mapping[Any, Any]
) -> None:
    """Raise if there are several series and there should be one, or nobody says that a column is meant as several."""
    if len(leading) == 2 and several is None and leading[0] >= leading[1]:
        number, times = leading
        meant = f"several=True if these are {number} series of {times} times; one series has the times first and alone"
    elif several is not None and several != (len(leading) == 2):
        wanted = "(series, times, ...)" if several else "(times, ...)"
        meant = f"shape {wanted} with several={several}"
    else:
        return
    shapes = {name: value.shape for name, value in values.items()}
    raise InvalidArgument("y", f"shape {shapes.get(None, shapes)}", meant)


def _leading(value: Any, name: str | None, variable: _Variable) -> tuple[int, ...]:
    axes = value.ndim - len(variable.shape)
    leading, event = value.shape[: max(axes, 0)], value.shape[max(axes, 0) :]
    if axes not in (1, 2) or event != variable.shape or not all(leading):
        inner = "".join(f", {k}" for k in variable.shape)
        raise InvalidArgument(
            _named(name),
            f"array of shape {value.shape}",
            f"shape (times{inner}) or (series, times{inner}), as {variable.name} says",
        )
    return leading


def _missing(value: Any, name: str | None, variable: _Variable) -> Missing:
    if not jnp.issubdtype(value.dtype, jnp.floating):
        return "none"
    if isinstance(value, Tracer):  # not known: ready for whatever may be missing
        return "entries" if variable.marginalises else "rows"
    known = np.asarray(value)
    if variable.discrete and (known[~np.isnan(known)] % 1 != 0).any():
        allowed = f"whole numbers, or NaN where one is missing: {variable.name} is discrete"
        raise InvalidArgument(_named(name), "fractions", allowed)
    gone = np.isnan(known).reshape(*value.shape[: value.ndim - len(variable.shape)], -1)
    if not gone.any():
        return "none"
    if (gone.all(-1) == gone.any(-1)).all():
        return "rows"
    if not variable.marginalises:
        raise InvalidArgument(
            _named(name),
            "observations that are missing in part",
            f"whole rows of NaN: {variable.name} is not known to have marginals; "
            "independent components (to_event) and MultivariateNormal have",
        )
    return "entries"


def _named(name: str | None) -> str:
    return "y" if name is None else f"y[{name!r}]"
