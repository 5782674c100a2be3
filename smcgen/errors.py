"""Errors a user can meet. Each names the argument, what came, and what is allowed."""

import re
from collections.abc import Iterable
from typing import Any

SECRET = re.compile(r"(api_?key|(^|_)token|secret|password)$", re.IGNORECASE)
"""Names of arguments whose values are in no message."""


class SmcgenError(Exception):
    """Base class of every error that smcgen raises on purpose."""


class InvalidArgument(SmcgenError, ValueError):
    """An argument is not what it must be. What came is not told of one that is named like a secret."""

    def __init__(self, name: str, got: Any, allowed: str):
        if SECRET.search(name) and isinstance(got, str):
            got = "***"
        super().__init__(f"{name}={got!r} is not allowed: expected {allowed}")
        self.name, self.got, self.allowed = name, got, allowed


class UnknownName(InvalidArgument):
    """A name that no member of a family has."""

    def __init__(self, family: str, got: Any, known: Iterable[str]):
        super().__init__(family, got, "one of " + ", ".join(repr(k) for k in sorted(known)))


class MissingExtra(SmcgenError, ImportError):
    """An optional dependency is not installed."""

    def __init__(self, feature: str, package: str, extra: str):
        super().__init__(f"{feature} needs the package {package!r}: pip install 'smcgen[{extra}]'")


class ModelError(SmcgenError, TypeError):
    """A model lacks a method or capability that the algorithm needs."""


class RewardError(SmcgenError):
    """A reward failed or returned something that is not one finite number per text."""


class EngineError(SmcgenError):
    """An engine failed, died or was closed."""


class CheckpointError(SmcgenError):
    """A checkpoint cannot be read, or belongs to another model."""


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, with what was done before it."""
