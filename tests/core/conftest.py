"""Compile time is most of the time of these tests."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture
def quick_compile(request) -> Iterator[None]:
    """XLA without its optimisations: half the compile time, for functions that run once or twice."""
    quick = request.node.get_closest_marker("slow") is None
    jax.config.update("jax_disable_most_optimizations", quick)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
