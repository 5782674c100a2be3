"""How the engine is configured and built, and what it is asked for."""

from pathlib import Path
from typing import Any

import torch
import vllm
from vllm.engine.arg_utils import EngineArgs
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.llm_engine import LLMEngine

from smcgen.errors import EngineError, InvalidArgument
from smcgen.hub import load_config, load_tokenizer, source_of
from smcgen.text.engines._vllm.adopt import ask_v2, weakly
from smcgen.text.engines._vllm.processor import processor_of
from smcgen.text.engines._vllm.scheduler import ParticleScheduler
from smcgen.text.engines._vllm_env import in_process
from smcgen.text.engines._vllm_refused import check_known, refused
from smcgen.text.engines._vllm_shared import share

VERSION = "0.32"  # the vLLM whose inner names this package was written for
_CPU_CACHE = 1 << 30  # bytes of KV cache; left to itself vLLM takes nearly all memory there is
_OURS = {
    "scheduler_cls": ParticleScheduler,
    "async_scheduling": False,  # a step of the engine is a step of the particles
    "distributed_executor_backend": "uni",  # the processor shares memory with the driver
    "disable_log_stats": True,
    "enable_prefix_caching": True,  # what a copy falls back to
    "use_tqdm_on_load": False,
    "generation_config": "vllm",  # no sampling defaults of the checkpoint's: laws are ours
}


class Build:
    """Makes an engine, again if need be; see `smcgen.text.VLLM` for the arguments."""

    def __init__(self, model: Any, max_length: int | None, engine_args: dict[str, Any]):
        if not vllm.__version__.startswith(VERSION):
            raise EngineError(
                f"vLLM {vllm.__version__} is installed; this version of smcgen knows {VERSION}.x"
            )
        for name in engine_args:
            if name in _OURS or name in ("logits_processors", "max_model_len"):
                allowed = "no such argument" if name in _OURS else "max_length, or nothing"
                raise InvalidArgument(name, engine_args[name], allowed)
        for name in ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size"):
            if engine_args.get(name, 1) != 1:
                allowed = "1 in this process; VLLMRequests(lambda: vllm.LLM(...)) takes any"
                raise InvalidArgument(name, engine_args[name], allowed)
        if engine_args.get("speculative_config") is not None:
            got = engine_args["speculative_config"]
            raise InvalidArgument("speculative_config", got, "None: tokens are drawn one by one")
        check_known(engine_args)
        self._source = source_of("model", model)
        hub = {k: engine_args[k] for k in ("trust_remote_code", "revision") if k in engine_args}
        load_config(self._source, **hub)  # so that a missing model is an error of ours
        given = engine_args.get("tokenizer", self._source)
        self.tokenizer = load_tokenizer(source_of("tokenizer", given), **hub)
        self._args: dict[str, Any] = _defaults() | _OURS | {"model": self._source} | engine_args
        if max_length is not None:
            self._args["max_model_len"] = max_length
        self.config = self._configured()

    def __call__(self, draw: Any) -> LLMEngine:
        """An engine whose tokens `draw` draws."""
        config = self._configured()
        if not config.use_v2_model_runner:
            config.model_config.logits_processors = [processor_of(weakly(draw))]
        try:
            share()
            with in_process():
                engine = LLMEngine.from_vllm_config(config, UsageContext.LLM_CLASS, None, True)
        except (ValueError, RuntimeError, MemoryError) as error:
            raise EngineError(f"vLLM cannot start on {self._source}: {error}") from error
        if config.use_v2_model_runner:
            try:
                ask_v2(engine, draw)
            except EngineError:
                self.shut(engine)
                raise
        return engine

    def shut(self, engine: Any) -> None:
        """End an engine."""
        engine.engine_core.shutdown()

    def _configured(self, **changes: Any) -> Any:
        args = self._args | changes
        try:
            with in_process():
                return EngineArgs(**args).create_engine_config(UsageContext.LLM_CLASS)
        except (TypeError, ValueError) as error:
            given = {k: v for k, v in args.items() if k not in _OURS}
            asked = args.get("max_model_len") is not None
            longest = lambda: self._configured(max_model_len=None).model_config.max_model_len
            raise refused(error, given, longest if asked else None) from error

    @property
    def generation_eos(self) -> Any:
        """End-of-text tokens of the checkpoint's generation configuration."""
        file = Path(self._source) / "generation_config.json"
        if Path(self._source).is_dir() and not file.exists():
            return None
        from transformers import GenerationConfig

        try:
            return GenerationConfig.from_pretrained(self._source).eos_token_id
        except OSError:  # a hub model without one
            return None


def _defaults() -> dict[str, Any]:
    """Where there is no accelerator: no compiler, small blocks, and a cache that leaves some memory."""
    if torch.accelerator.is_available():
        return {}
    return {
        "dtype": "float32",
        "block_size": 32,
        "enforce_eager": True,
        "kv_cache_memory_bytes": _CPU_CACHE,
    }
