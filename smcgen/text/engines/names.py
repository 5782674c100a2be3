"""Engines by name, as the command line asks for them; imported when one is asked for."""

from typing import Any, NamedTuple

from smcgen.text._arguments import asked, made


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
    make, arguments = asked("engine", ENGINES, kind, "engine_args", options)
    if kind == "vllm" and any(arguments.get(name, 1) != 1 for name in _PARALLEL):
        make = _vllm_of_many
    return made("engine_args", make, model, arguments)


def _vllm_of_many(model: str, **arguments: Any) -> Any:
    """vLLM over several devices: its workers are other processes, asked for completions."""
    from smcgen.text.engines._llm import VLLMRequests

    own = {k: arguments.pop(k) for k in ("max_length", "restarts") if k in arguments}

    def start() -> Any:
        from vllm import LLM

        return LLM(model, **arguments)

    return VLLMRequests(start, **own)
