"""An engine or server that dies in the middle of a run: on another one it goes on from its checkpoint, unharmed."""

from contextlib import ExitStack

import numpy as np
import pytest

import smcgen
from smcgen.errors import EngineError
from smcgen.text import Regex, Step
from smcgen.text._http import ServerError
from smcgen.text.engines.remote import Remote
from tests.text import tiny, vllm_tiny
from tests.text.engines.served import Server, serving, toy
from tests.text.engines.test_vllm_faults import fail_once
from tests.text.vllm_tiny import TILT, assert_same, run

real = [vllm_tiny.needs_vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
CASES = {
    "tokens": {"step": 2},
    "lines": {"step": "\n", "potential": Regex(r"([ab]+[.\n])*") * TILT},
    "run ahead": {"step": Step(ess=0.5), "potential": Regex(r"([ab]+[.\n])*")},
}


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=real, id=name) for name, case in CASES.items()]
)
def test_vllm(case, tmp_path, monkeypatch):
    options, calls = case, []
    port = vllm_tiny.engine()._core._requests._port
    with monkeypatch.context() as patch:
        patch.setattr(port, "step", lambda real=port.step: (calls.append(1), real())[1])
        whole = run(vllm_tiny.engine(), "ab", **options)
    with vllm_tiny.new_engine() as mortal:
        fail_once(mortal, RuntimeError("out of luck"), at=len(calls) * 2 // 3)
        with pytest.raises(EngineError, match="out of luck") as caught:
            run(mortal, "ab", checkpoint=tmp_path / "run", **options)
    died_at = caught.value.result.num_steps
    assert 0 < died_at < whole.num_steps
    steps = []
    with vllm_tiny.new_engine() as other:
        resumed = run(
            other,
            "ab",
            checkpoint=tmp_path / "run",
            callback=lambda told: steps.append(told.t),
            **options,
        )
    assert min(steps) >= died_at  # what was written stays as it is
    assert_same(resumed, whole)
    assert resumed.num_steps == whole.num_steps


def remote(server):
    return Remote(server.url, tokenizer=tiny.tokenizer(), timeout=30.0, retries=0)


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 4])
def test_a_server(at, tmp_path):
    """The one that takes its place has another address."""
    with serving(Server(toy(1))) as server:
        whole = run(remote(server), "a", step=2)
    steps = []
    with ExitStack() as life:
        server = life.enter_context(serving(Server(toy(1))))
        engine = remote(server)

        def dies(told):
            if told.t == at:
                server.faults = [(503, b"going down", {"Connection": "close"})] * 100
                life.close()

        with pytest.raises(ServerError, match="no connection|going down") as caught:
            run(engine, "a", step=2, checkpoint=tmp_path / "run", callback=dies)
    assert caught.value.result.num_steps >= at
    with serving(Server(toy(1))) as other:
        assert other.url != server.url
        seen = lambda told: steps.append(told.t)
        resumed = run(remote(other), "a", step=2, checkpoint=tmp_path / "run", callback=seen)
    assert min(steps) > at - 1
    assert_same(resumed, whole, exact=True)
    np.testing.assert_array_equal(resumed.particles.lengths, whole.particles.lengths)


@pytest.mark.slow
def test_several_prompts_on_a_server_that_dies(tmp_path):
    """Each is resumed from a file of its own."""
    options = {"n_particles": 4, "step": 2, "max_tokens": 16, "reward": TILT, "key": 3}
    prompts = ["a", "b", "."]
    with serving(Server(toy(1))) as server:
        whole = smcgen.steer(prompts, model=remote(server), **options)
    with serving(Server(toy(1))) as server:
        engine, calls = remote(server), []

        def dies(told):
            calls.append(told.t)
            if len(calls) == 7:
                server.faults = [(503, b"going down", {})] * 1000

        with pytest.raises(ServerError, match="going down"):
            smcgen.steer(prompts, model=engine, checkpoint=tmp_path, callback=dies, **options)
    with serving(Server(toy(1))) as other:
        resumed = smcgen.steer(prompts, model=remote(other), checkpoint=tmp_path, **options)
    for one, two in zip(resumed, whole, strict=True):
        assert one.texts == two.texts
        assert one.log_evidence == pytest.approx(two.log_evidence, abs=1e-12)
