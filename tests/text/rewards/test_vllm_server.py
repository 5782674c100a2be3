"""Who waits for a reward's vLLM engine that is killed or interrupted; the engine is a pretended one."""

import threading
from queue import Queue
from types import SimpleNamespace

import pytest

from smcgen.errors import EngineError
from smcgen.text.rewards._vllm_server import Server
from tests.text.vllm_tiny import needs_vllm

# slow: importing vLLM takes longer than everything else
pytestmark = [needs_vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Elsewhere:
    """A `vllm.LLM` whose engine core is another process, with what it answers."""

    def __init__(self):
        core = SimpleNamespace(outputs_queue=Queue(), resources=SimpleNamespace(engine_dead=False))
        self.model_config = SimpleNamespace(max_model_len=64)
        self.llm_engine = SimpleNamespace(
            engine_core=core,
            output_processor=SimpleNamespace(request_states={}),
            abort_request=lambda ids, internal: None,
        )

    def reset_prefix_cache(self):
        raise AssertionError("an answer to this is waited for without end")

    def encode(self, prompts, *_, **__):
        got = self.llm_engine.engine_core.outputs_queue.get()
        if isinstance(got, BaseException):
            raise got
        return got


def asked(server):
    """What each of two threads is told that ask while the engine is at work."""
    told = {}

    def ask(name):
        try:
            told[name] = server([[1, 2]])
        except BaseException as error:
            told[name] = error

    threads = [threading.Thread(target=ask, args=(name,), daemon=True) for name in "ab"]
    with server._engine:
        for thread in threads:
            thread.start()
        while len(server._queue) < len(threads):
            pass
    return told, threads


def test_a_killed_engine_core_is_not_waited_for():
    llm = Elsewhere()
    told, threads = asked(Server(llm, "classify", owned=False))
    llm.llm_engine.engine_core.resources.engine_dead = True  # nobody puts anything into the queue
    for thread in threads:
        thread.join(10)
    assert [type(error) for error in told.values()] == [EngineError, EngineError]


@pytest.mark.parametrize("again", [False, True])
def test_an_interrupt_of_one_leaves_the_answers_of_the_others(again):
    import torch

    llm, head = Elsewhere(), torch.tensor([1.5])
    if again:  # Ctrl-C once more, while what was asked is aborted
        llm.llm_engine.abort_request = lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt)
    answers = llm.llm_engine.engine_core.outputs_queue
    answers.put(KeyboardInterrupt())
    answers.put([SimpleNamespace(outputs=SimpleNamespace(data=head), num_cached_tokens=0)])
    told, threads = asked(Server(llm, "classify", owned=False))
    for thread in threads:
        thread.join(10)
    first, other = sorted(told.values(), key=lambda x: not isinstance(x, KeyboardInterrupt))
    assert isinstance(first, KeyboardInterrupt)
    if again:
        assert isinstance(other, EngineError)
    else:
        assert other == ([head], 2)
