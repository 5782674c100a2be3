"""Compile time is most of the time of these tests."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(autouse=True, scope="module")
def quick_compile() -> Iterator[None]:
    """XLA without its optimisations: the programs run for milliseconds. Before the fixtures of a module."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
