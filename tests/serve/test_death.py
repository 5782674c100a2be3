"""An engine that dies: health, answers and metrics say so. An engine that failed once is not dead."""

import httpx
import pytest

from smcgen.errors import EngineError
from smcgen.text import FunctionReward
from tests.serve import running
from tests.serve.test_life import counted
from tests.text import vllm_tiny

BODY = {"model": "m", "prompt": "ab", "seed": 1}


def post(server, **fields):
    url = f"{running.url(server)}/v1/completions"
    return httpx.post(url, json=BODY | fields, timeout=60)


def lives(server):
    health = httpx.get(f"{running.url(server)}/health")
    assert (health.json()["status"] == "ok") == (health.status_code == 200)
    assert counted(server, "smcgen_engine_up") == (health.status_code == 200)
    return health.status_code == 200


def is_dead(server):
    """The engine of this server is, and everybody is told."""
    assert not lives(server)
    health = httpx.get(f"{running.url(server)}/health")
    assert health.status_code == 503
    assert health.json()["status"] == "engine_dead"
    assert "died (RuntimeError)" in health.json()["reason"]
    got = post(server)
    assert got.status_code == 503
    assert got.json()["error"]["code"] == "engine_dead"
    assert "secret" not in health.text + got.text


class Mortal:
    """An engine that can be told to fail, or to die."""

    def __init__(self, inner):
        self._inner, self.dead, self.plan = inner, None, None

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def open(self, *arguments):
        if self.plan == "die":
            self.dead = RuntimeError("a secret path")
            raise EngineError("the engine died: a secret path") from self.dead
        if self.plan == "fail":
            raise EngineError("a factor is wrong")
        return self._inner.open(*arguments)


@pytest.mark.parametrize("stream", [False, True])
def test_a_dead_engine_is_told_and_a_failed_run_is_not_a_dead_engine(stream):
    engine = Mortal(running.chatty())
    with running.serving(running.config(engine=engine, max_tokens=4)) as server:
        assert post(server).status_code == 200
        engine.plan = "fail"
        assert post(server).status_code == 500
        assert lives(server)
        engine.plan = None
        assert post(server).status_code == 200
        engine.plan = "die"
        first = post(server, stream=stream)
        assert first.status_code == (200 if stream else 503)
        assert "engine_dead" in first.text
        assert "secret" not in first.text
        is_dead(server)


@vllm_tiny.needs_vllm
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_vllm_dies_once_too_often():
    """Once it is built again and nobody notices; the second time is the end."""
    reward = FunctionReward(lambda texts: [0.1 * t.count("a") for t in texts])
    with vllm_tiny.new_engine(restarts=1) as engine:
        settings = running.config(engine=engine, reward=reward, step=2, max_tokens=8)
        with running.serving(settings) as server:
            alive = post(server).json()["choices"]
            fail_in_its_next_step(engine)
            assert post(server).json()["choices"] == alive
            assert lives(server)
            fail_in_its_next_step(engine)
            got = post(server)
            assert (got.status_code, got.json()["error"]["code"]) == (503, "engine_dead")
            is_dead(server)


def fail_in_its_next_step(engine):
    def step():
        raise RuntimeError("out of luck, and a secret")

    engine._core._requests._port.step = step
