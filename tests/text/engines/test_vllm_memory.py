"""Memory: an engine takes what it is told to, and gives it back when it is closed or dies."""

import gc
import weakref
from pathlib import Path

import pytest
import torch

from smcgen.errors import EngineError
from smcgen.text import VLLM
from smcgen.text.rewards import VLLMProcessReward
from tests.text import vllm_tiny
from tests.text.engines.test_vllm_faults import fail_once
from tests.text.vllm_tiny import SMALL, run

pytestmark = [vllm_tiny.needs_vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
MODELS = Path(__file__).parents[3] / "models"
SIZE = 1 << 28


@pytest.fixture(autouse=True)
def light():
    vllm_tiny.engine()  # what the first engine of a process leaves is none of a later one's


def held() -> int:
    """Bytes in use: of the GPU, or of the process that are not only promised."""
    if torch.cuda.is_available():
        return torch.cuda.memory_allocated()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def caches(engine):
    """The KV cache's tensors, filled, so that their memory is really there."""
    found = engine.model_executor.driver_worker.worker.model_runner.kv_caches
    for tensor in found:
        tensor.fill_(0.5)
    size = sum(tensor.nbytes for tensor in found)
    return size, [weakref.ref(tensor) for tensor in found]


def policy():
    engine = vllm_tiny.new_engine(kv_cache_memory_bytes=SIZE)
    return engine, engine._core.engine


def reward():
    part = VLLMProcessReward(MODELS / "tape-prm-good", **SMALL | {"kv_cache_memory_bytes": SIZE})
    return part, part._server._llm.llm_engine


@pytest.mark.parametrize("make", [policy, reward])
def test_closing_frees_the_cache(make):
    part, engine = make()
    size, tensors = caches(engine)
    assert 0.9 * SIZE < size <= SIZE
    del engine
    before = held()
    part.close()
    assert [tensor() for tensor in tensors] == [None] * len(tensors)
    assert before - held() > 0.9 * size
    part.close()


def test_an_engine_that_died_frees_it_when_it_is_closed():
    """The failed run, whose result somebody keeps, does not hold the engine."""
    part, engine = policy()
    size, tensors = caches(engine)
    del engine
    fail_once(part, RuntimeError("out of luck"), at=4)
    with pytest.raises(EngineError, match="out of luck") as caught:
        run(part, "ab", step=2)
    before, result = held(), caught.value.result
    del caught
    part.close()
    gc.collect()
    assert [tensor() for tensor in tensors] == [None] * len(tensors)
    assert before - held() > 0.9 * size
    assert result.num_steps > 0


def test_an_engine_built_again_takes_the_place_of_the_dead_one():
    part = vllm_tiny.new_engine(kv_cache_memory_bytes=SIZE, restarts=1)
    with part:
        size, tensors = caches(part._core.engine)
        before = held()
        fail_once(part, RuntimeError("out of luck"), at=4)
        with pytest.warns(RuntimeWarning, match="built again"):
            run(part, "ab", step=2)
        assert [tensor() for tensor in tensors] == [None] * len(tensors)
        assert caches(part._core.engine)[0] == size
        assert held() < before + 0.5 * size


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU's default is what is free")
@pytest.mark.parametrize(
    ("given", "wanted"), [({}, 1 << 30), ({"kv_cache_memory_bytes": SIZE}, SIZE)]
)
def test_policies_and_rewards_take_the_cache_that_they_are_told_to(given, wanted):
    for kind, name in ((VLLM, "tape-policy"), (VLLMProcessReward, "tape-prm-good")):
        with kind(MODELS / name, **given) as part:
            engine = part._core.engine if kind is VLLM else part._server._llm.llm_engine
            found = engine.model_executor.driver_worker.worker.model_runner.kv_caches
            assert 0.99 * wanted < sum(tensor.nbytes for tensor in found) <= wanted
