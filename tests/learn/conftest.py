"""Compile time is most of the time of these tests: see `tests/core/conftest.py`."""

from tests.core.conftest import quick_compile

__all__ = ["quick_compile"]
