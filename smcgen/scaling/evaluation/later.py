"""What is made where it is used: an engine in the process of an actor, not in the one that hands out the work."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Later:
    """`fn(*arguments, **options)`, when it is needed. All three must be able to travel to another process."""

    fn: Callable[..., Any]
    arguments: Sequence[Any] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def made(value: Any) -> Any:
    """A value, or what a `Later` makes."""
    if isinstance(value, Later):
        return value.fn(*value.arguments, **value.options)
    return value
