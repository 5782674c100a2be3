"""An engine that is built leaves the user's random numbers alone, and says nothing that only we could mend."""

import logging
import random
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from smcgen.text.engines._vllm_traces import kept_generators, quiet
from tests.text import vllm_tiny
from tests.text.vllm_tiny import SMALL, run

needs_vllm = [vllm_tiny.needs_vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
MODELS = Path(__file__).parents[3] / "models"


def vllm(test):
    """A test that runs vLLM."""
    for mark in needs_vllm:
        test = mark(test)
    return test


@pytest.fixture
def seeded(unchecked):
    """The next numbers of all global generators, wherever they stand; nothing is drawn.

    Unchecked, because the checks of types draw the item of a list that they look at.
    """
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002 - what users do
    torch.manual_seed(1)

    def ahead():
        with kept_generators():
            numbers = [random.random(), np.random.random(), torch.rand(()).item()]  # noqa: NPY002
            if torch.cuda.is_available():
                numbers.append(torch.rand((), device="cuda").item())
        return numbers

    return ahead


@vllm
def test_a_policy_built_run_and_built_again(seeded):
    before = seeded()
    with vllm_tiny.new_engine(restarts=1) as engine:
        assert seeded() == before
        run(engine, "ab", n=4)
        assert seeded() == before
        engine._core._again(rebuild=True)
        assert seeded() == before


@vllm
def test_a_reward(seeded):
    from smcgen.text.rewards import VLLMProcessReward

    before = seeded()
    vllm_tiny.light()
    with VLLMProcessReward(MODELS / "tape-prm-good", **SMALL):
        assert seeded() == before


def test_generators_are_kept_when_the_block_fails(seeded):
    before = seeded()

    @kept_generators()
    def fails():
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002
        raise KeyError

    with pytest.raises(KeyError):
        fails()
    assert seeded() == before


def test_cuda_generators_that_were_there_and_that_were_not(monkeypatch):
    """On pretended devices."""
    there, told = [False], []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: there[0])
    monkeypatch.setattr(torch.cuda, "get_rng_state_all", lambda: ["a state"])
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", told.append)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", told.append)
    torch.default_generator.manual_seed(7)
    with kept_generators():
        torch.default_generator.manual_seed(0)
        there[0] = True
    assert told.pop() == 7
    with kept_generators():
        pass
    assert told == [["a state"]]


@pytest.fixture
def said(monkeypatch):
    """What vLLM logs."""
    lines, handler = [], logging.Handler(logging.WARNING)
    handler.emit = lambda record: lines.append(record.getMessage())
    logging.getLogger("vllm").addHandler(handler)
    yield lines
    logging.getLogger("vllm").removeHandler(handler)


@vllm
def test_two_warnings_are_kept_out_and_only_of_our_engines(said):
    from vllm.config import scheduler
    from vllm.logger import _print_warning_once

    _print_warning_once.cache_clear()  # it may have been given to an engine before
    with vllm_tiny.new_engine() as engine:
        assert type(engine._core.scheduler).__name__ == "ParticleScheduler"
    _print_warning_once.cache_clear()
    assert not [line for line in said if "custom scheduler" in line or "random seed" in line]
    words = "Using custom scheduler class %s."
    with quiet():
        scheduler.logger.warning(words, "ParticleScheduler")
        scheduler.logger.warning(words, "the user's")
        scheduler.logger.warning("another thing about ParticleScheduler")
    scheduler.logger.warning(words, "ParticleScheduler")
    wanted = ["another thing about ParticleScheduler", words % "ParticleScheduler"]
    assert said[-3:] == [words % "the user's", *wanted]


@vllm
def test_the_look_through_all_modules_warns_of_nothing(monkeypatch):
    from vllm.triton_utils import dispatcher

    from smcgen.text.engines._vllm_env import _quick_kernels

    looks = lambda overrides: [dispatcher.vars(torch.distributed.reduce_op) for _ in overrides]
    _quick_kernels()
    monkeypatch.delattr(dispatcher, "smcgen_register")  # as if vLLM had just been imported
    monkeypatch.setattr(dispatcher, "register_kernels", looks)
    monkeypatch.setattr(dispatcher, "vars", dispatcher.vars)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(FutureWarning, match="reduce_op"):  # in every process with torch
            looks({"a kernel": None})
        _quick_kernels()
        dispatcher.register_kernels({"a kernel": None})
