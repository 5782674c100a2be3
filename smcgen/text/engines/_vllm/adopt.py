"""Taking over a `vllm.LLM` that somebody else has made, if it runs in this process."""

import weakref
from typing import Any, cast

from vllm.v1.core.sched.scheduler import Scheduler

from smcgen.errors import EngineError, InvalidArgument
from smcgen.text.engines._vllm.core import Core
from smcgen.text.engines._vllm.processor import processor_of
from smcgen.text.engines._vllm.scheduler import ParticleScheduler
from smcgen.text.engines._vllm_shared import share


class Adopted:
    """What `Build` is, for an engine that is there already.

    Its owner may go on using it, but not while particles are written: both take all outputs of a step.

    Raises:
        InvalidArgument: an LLM whose engine core is in another process, or schedules ahead.
    """

    generation_eos = None

    def __init__(self, llm: Any):
        self._engine = llm.llm_engine
        self.config = self._engine.vllm_config
        core = getattr(self._engine.engine_core, "engine_core", None)
        kind = type(core.scheduler) if core is not None else None
        if kind not in (Scheduler, ParticleScheduler):
            where = "in another process" if kind is None else f"scheduled by {kind.__name__}"
            raise InvalidArgument(
                "model",
                f"a vllm.LLM {where}",
                "one built with VLLM_ENABLE_V1_MULTIPROCESSING=0 and async_scheduling=False; "
                "VLLMRequests(llm) takes any",
            )
        runner = self.config.model_config.runner_type
        if runner != "generate":
            raise InvalidArgument("model", f"a vllm.LLM of runner={runner!r}", "runner='generate'")
        if self.config.speculative_config is not None:
            allowed = "one without speculative_config: tokens are drawn one by one"
            raise InvalidArgument("model", "a vllm.LLM that speculates", allowed)
        self.tokenizer = llm.get_tokenizer()
        share()

    def __call__(self, draw: Any) -> Any:
        """The engine, with our scheduler's methods, that asks `draw` for tokens."""
        engine = self._engine
        if engine is None:
            raise EngineError("an LLM that somebody else has made cannot be built again")
        runner = engine.model_executor.driver_worker.worker.model_runner
        if self.config.use_v2_model_runner:
            ask_v2(engine, draw)
        else:
            processor = processor_of(weakly(draw))(self.config)
            runner.input_batch.logitsprocs.non_argmax_invariant.append(processor)
        self._engine = None
        scheduler: Any = engine.engine_core.engine_core.scheduler
        if type(scheduler) is Scheduler:
            scheduler.__class__ = ParticleScheduler
            cast("ParticleScheduler", scheduler).adopt()
        return engine

    def shut(self, engine: Any) -> None:
        """It is not ours to end."""


def core_of(llm: Any, make: Adopted) -> Core:
    """The one `Core` of an LLM: it lives as long as the LLM, with what asks it for tokens and its scheduler."""
    if getattr(llm, "smcgen_core", None) is None:
        llm.smcgen_core = Core(make, restarts=0)
    return llm.smcgen_core


def weakly(draw: Any) -> Any:
    """`draw` while it is there (vLLM never forgets a processor class), else nothing is drawn."""
    asked = weakref.ref(draw)

    def call(*args: Any) -> Any:
        found = asked()
        return [] if found is None else found(*args)

    return call


def ask_v2(engine: Any, draw: Any) -> None:
    """Have an engine's V2 runner ask `draw` for tokens."""
    from smcgen.text.engines._vllm.sampler import install  # of what only this runner needs

    install(engine.model_executor.driver_worker.worker.model_runner.sampler, draw)
