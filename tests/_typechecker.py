"""The run-time type checker of the tests: beartype, set up to agree with static type checkers.

An int is a float (PEP 484). A Protocol without `@runtime_checkable`, which beartype refuses, is a
contract for people and type checkers; in tests it is checked too, so it is made checkable first.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from types import CodeType
from typing import Any, ForwardRef, get_args, runtime_checkable
from unittest.mock import patch

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import _decorator, _import_hook

# Entry points that check their own arguments, and take any object with the methods of a model.
_CHECK_THEMSELVES = {"smcgen.core.smc.smc", "smcgen.core.smc._settings", "smcgen.text.steer.steer"}
_beartype = beartype(
    conf=BeartypeConf(is_pep484_tower=True, violation_type=jaxtyping.TypeCheckError)
)
_jaxtyped = jaxtyping.jaxtyped


def install() -> None:
    """Every signature of smcgen is checked at run time, shapes included, if smcgen is imported after this."""
    jaxtyping.install_import_hook("smcgen", "tests._typechecker.check")
    # jaxtyping's loader looks for its own bytecode while a module runs, so also for that of every package imported
    # beneath it (torch, scipy, ...), which is then compiled from source. Here only while it reads its own module.
    loader: Any = _import_hook._JaxtypingLoader

    def get_code(self: Any, name: str) -> CodeType | None:
        own = functools.partial(
            _import_hook._optimized_cache_from_source, self._typechecker.get_hash()
        )
        with patch("importlib._bootstrap_external.cache_from_source", own):
            return SourceFileLoader.get_code(self, name)

    loader.get_code, loader.exec_module = get_code, SourceFileLoader.exec_module
    jaxtyping.jaxtyped = _decorator.jaxtyped = jaxtyped


def jaxtyped(function: Any = None, *, typechecker: Any) -> Any:
    """`jaxtyping.jaxtyped`, which is beartype alone for a signature without shapes.

    jaxtyping binds the arguments of each call to their names: to a short function, that is many times its own work.
    """
    if function is None:
        return functools.partial(jaxtyped, typechecker=typechecker)
    if not inspect.isfunction(function) or _has_shapes(function):
        return _jaxtyped(function, typechecker=typechecker)
    checked = check(function)

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        off = jaxtyping.config.jaxtyping_disable
        return (function if off else checked)(*args, **kwargs)

    return call


def _has_shapes(function: Callable) -> bool:
    """Whether its hints say shapes, or may (text is not read), or are of what it yields or awaits."""
    if inspect.isgeneratorfunction(function) or inspect.iscoroutinefunction(function):
        return True
    if inspect.isasyncgenfunction(function):
        return True
    hints = [p for hint in function.__annotations__.values() for p in parts(hint)]
    return any(
        isinstance(part, str | ForwardRef) or type(part).__module__.startswith("jaxtyping")
        for part in hints
    )


def check(function: Callable) -> Callable:
    """`function` checked by beartype, which reads its hints at the first call.

    Most functions are never called in one process, and reading the hints of all takes longer than importing them.
    """
    if f"{function.__module__}.{function.__qualname__}" in _CHECK_THEMSELVES:
        return function
    checked: Callable | None = None

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        nonlocal checked
        if checked is None:
            checked = _check(function)
        return checked(*args, **kwargs)

    return call


def _check(function: Callable) -> Callable:
    """`beartype.beartype`, after making the Protocols in the hints of `function` checkable."""
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
