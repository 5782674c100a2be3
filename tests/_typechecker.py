"""The run-time type checker of the tests: beartype, set up to agree with static type checkers.

An int is a float (PEP 484). A Protocol without `@runtime_checkable`, which beartype refuses, is a
contract for people and type checkers; in tests it is checked too, so it is made checkable first.
"""

from collections.abc import Callable, Iterator
from typing import Any, get_args, runtime_checkable

from beartype import BeartypeConf, beartype

# Entry points that check their own arguments, and take any object with the methods of a model.
_CHECK_THEMSELVES = {"smcgen.core.smc.smc", "smcgen.core.smc._settings", "smcgen.text.steer.steer"}
_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check(function: Callable) -> Callable:
    """`beartype.beartype`, after making the Protocols in the hints of `function` checkable."""
    if f"{function.__module__}.{function.__qualname__}" in _CHECK_THEMSELVES:
        return function
    for hint in getattr(function, "__annotations__", {}).values():
        for part in parts(hint):
            if getattr(part, "_is_protocol", False):
                runtime_checkable(part)
    return _beartype(function)


def parts(hint: Any) -> Iterator[Any]:
    """A hint and everything inside it."""
    yield hint if isinstance(hint, type) else getattr(hint, "__origin__", hint)
    for argument in get_args(hint):
        yield from parts(argument)
