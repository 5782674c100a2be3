"""A `vllm.LLM` whose engine core is another process, which may be killed."""

from queue import Empty, Queue
from typing import Any

_LOOK = 0.5  # seconds between looks at whether an engine core lives


class _Outputs:
    """What comes of an engine core in another process: waiting for it ends when that process does.

    vLLM's own queue is waited at for ever if the process is killed after it was asked and before that is noticed.
    """

    def __init__(self, outputs: Any, resources: Any):
        self._outputs, self._resources = outputs, resources

    def get(self) -> Any:
        from vllm.v1.engine.exceptions import EngineDeadError

        while True:
            dead = self._resources.engine_dead  # before the look: what came until then is there
            try:
                return self._outputs.get(timeout=0 if dead else _LOOK)
            except Empty:
                if dead:
                    raise EngineDeadError from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outputs, name)


def watched(llm: Any) -> Any:
    """An LLM that cannot be waited at for ever."""
    core = llm.llm_engine.engine_core
    outputs = getattr(core, "outputs_queue", None)
    if isinstance(outputs, Queue):
        core.outputs_queue = _Outputs(outputs, core.resources)
    return llm
