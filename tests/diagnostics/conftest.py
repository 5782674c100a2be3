"""Compile time is most of the time of these tests too."""

from tests.core.conftest import quick_compile as quick_compile
