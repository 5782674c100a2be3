"""Engines by name, as the command line asks for them; imported when one is asked for."""

import importlib
import json
from typing import Any, NamedTuple

from smcgen.errors import InvalidArgument, UnknownName


class EngineKind(NamedTuple):
    """Where an engine is."""

    module: str
    name: str


# Threads may share all of them: sessions are separate populations; a forward pass of transformers
# holds the model's own lock, and vLLM batches what the populations ask for.
ENGINES = {
    "transformers": EngineKind("smcgen.text.engines.transformers", "Transformers"),
    "vllm": EngineKind("smcgen.text.engines.vllm", "VLLM"),
    "remote": EngineKind("smcgen.text.engines.remote", "Remote"),
}


# what vLLM spreads over devices, in processes of its own
_PARALLEL = ("tensor_parallel_size", "pipeline_parallel_size", "data_parallel_size")


def load_engine(kind: str, model: str, options: str | None = None) -> Any:
    """An engine on a model's path, name or (`remote`) address; `options` is JSON: its other arguments.

    Raises:
        UnknownName: there is no such engine.
        InvalidArgument: the options are not a JSON object, or not the engine's.
        SmcgenError: the model cannot be loaded.
    """
    if kind not in ENGINES:
        raise UnknownName("engine", kind, ENGINES)
    try:
        arguments = json.loads(options) if options else {}
    except json.JSONDecodeError as error:
        raise InvalidArgument("engine_args", options, f"a JSON object ({error})") from error
    if not isinstance(arguments, dict):
        raise InvalidArgument("engine_args", options, "a JSON object")
    if kind == "vllm" and any(arguments.get(name, 1) != 1 for name in _PARALLEL):
        return _vllm_of_many(model, arguments)
    found = ENGINES[kind]
    make = getattr(importlib.import_module(found.module), found.name)
    return make(model, **arguments)


def _vllm_of_many(model: str, arguments: dict[str, Any]) -> Any:
    """vLLM over several devices: its workers are other processes, asked for completions."""
    from smcgen.text.engines._llm import VLLMRequests

    own = {k: arguments.pop(k) for k in ("max_length", "restarts") if k in arguments}

    def start() -> Any:
        from vllm import LLM

        return LLM(model, **arguments)

    return VLLMRequests(start, **own)
