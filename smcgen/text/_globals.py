"""What a function reads from its module: names that its code loads, and their values."""

import dis
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType
from typing import Any

_LIBRARY_FOLDERS = {"site-packages", "dist-packages"}


def globals_read(function: FunctionType) -> dict[str, Any]:
    """Global names that a function reads and does not set, with their values, by name.

    A name that it sets itself is the state of a run (a counter, a cache made when first used), not a setting.
    Builtins, and names that have no value yet, are left out.
    """
    read, written = set(), set()
    for instruction in _instructions(function.__code__):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            read.add(instruction.argval)
        elif instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL"):
            written.add(instruction.argval)
    there = function.__globals__
    return {name: there[name] for name in sorted(read - written) if name in there}


def is_library(module: str | None) -> bool:
    """Whether a module is Python's own or installed, and not part of the user's program (or of smcgen)."""
    root = (module or "").partition(".")[0]
    if root == "smcgen":
        return False
    if root in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(module or ""), "__file__", None)
    return file is not None and bool(_LIBRARY_FOLDERS & set(Path(file).parts))


def _instructions(code: CodeType) -> Iterator[dis.Instruction]:
    """Of a function and of the functions written inside it."""
    yield from dis.get_instructions(code)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _instructions(constant)
