"""Servers that many tests share."""

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("openai")

from smcgen.text import FunctionReward
from tests.serve import running


@pytest.fixture(scope="package")
def tape():
    """The shipped policy, steered by the shipped process reward."""
    settings = running.config(**running.tape(), model="tape", answer=running.ANSWER)
    with running.serving(settings) as server:
        yield server


@pytest.fixture(scope="package")
def chat():
    """A tiny model with a chat template, steered by a function; no extractor."""
    settings = running.config(
        engine=running.chatty(),
        reward=FunctionReward(lambda texts: [0.1 * text.count("a") for text in texts]),
        step=1,
        max_tokens=12,
        max_particles=8,
        max_body_bytes=2000,
    )
    with running.serving(settings) as server:
        yield server
