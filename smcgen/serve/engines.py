"""The engines that `smcgen serve --engine` knows, imported when one is asked for."""

import importlib
from typing import Any, NamedTuple

from smcgen.errors import SmcgenError, UnknownName


class EngineKind(NamedTuple):
    """Where an engine is."""

    module: str
    name: str


# Threads may share both: sessions are separate populations; a forward pass of transformers holds the
# model's own lock, and vLLM batches the populations' requests.
ENGINES = {
    "transformers": EngineKind("smcgen.text.engines.transformers", "Transformers"),
    "vllm": EngineKind("smcgen.text.engines.vllm", "VLLM"),
}


def load_engine(kind: str, model: str) -> Any:
    """An engine on a model's path or name.

    Raises:
        UnknownName: there is no such engine.
        SmcgenError: this version of smcgen does not have it, or the model cannot be loaded.
    """
    if kind not in ENGINES:
        raise UnknownName("engine", kind, ENGINES)
    found = ENGINES[kind]
    try:
        module = importlib.import_module(found.module)
    except ModuleNotFoundError as error:
        if error.name != found.module:
            raise
        raise SmcgenError(f"engine {kind!r} is not in this version of smcgen") from error
    return getattr(module, found.name)(model)
