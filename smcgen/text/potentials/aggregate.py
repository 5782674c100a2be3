"""From a history of scores to one number: how a process reward speaks about a prefix.

`history` has one row per text and one column per step, NaN where a text has no such step.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from smcgen.errors import InvalidArgument, UnknownName

History = Float64[np.ndarray, "rows steps"]
Aggregate = Callable[[History], Float64[np.ndarray, " rows"]]


def last(history: History) -> Float64[np.ndarray, " rows"]:
    """The score of the latest step."""
    seen = (~np.isnan(history)).sum(1)
    return history[np.arange(len(history)), np.maximum(seen - 1, 0)]


AGGREGATES: dict[str, Aggregate] = {
    "value": last,
    "product": lambda h: np.nanprod(h, axis=1),
    "min": lambda h: np.nanmin(h, axis=1),
    "max": lambda h: np.nanmax(h, axis=1),
    "mean": lambda h: np.nanmean(h, axis=1),
    "sum": lambda h: np.nansum(h, axis=1),
}


def resolve(name: str, value: str | Aggregate) -> Aggregate:
    """An aggregate by its name, or a function of the history."""
    if isinstance(value, str):
        if value not in AGGREGATES:
            raise UnknownName(name, value, [*AGGREGATES, *(["none"] if name == "twist" else [])])
        return AGGREGATES[value]
    if not callable(value):
        raise InvalidArgument(name, value, "a name or a function of the history of scores")
    return value
