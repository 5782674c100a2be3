"""The run-time type checker of the tests: beartype, set up to agree with static type checkers.

An int is a float (PEP 484). A Protocol without `@runtime_checkable`, which beartype refuses, is a
contract for people and type checkers; in tests it is checked too, so it is made checkable first.
"""

import functools
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from types import CodeType
from typing import Any, get_args, runtime_checkable
from unittest.mock import patch

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import _import_hook

# Entry points that check their own arguments, and take any object with the methods of a model.
_CHECK_THEMSELVES = {"smcgen.core.smc.smc", "smcgen.core.smc._settings", "smcgen.text.steer.steer"}
_beartype = beartype(conf=BeartypeConf(is_pep484_tower=True))


def install() -> None:
    """Every signature of smcgen is checked at run time, shapes included, if smcgen is imported after this."""
    jaxtyping.install_import_hook("smcgen", "tests._typechecker.check")
    # jaxtyping's loader looks for its own bytecode while a module runs, so also for that of every package imported
    # beneath it (torch, scipy, ...), which is then compiled from source. Here only while it reads its own module.
    loader: Any = _import_hook._JaxtypingLoader

    def get_code(self: Any, name: str) -> CodeType:
        own = functools.partial(
            _import_hook._optimized_cache_from_source, self._typechecker.get_hash()
        )
        with patch("importlib._bootstrap_external.cache_from_source", own):
            return SourceFileLoader.get_code(self, name)

    loader.get_code, loader.exec_module = get_code, SourceFileLoader.exec_module


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
