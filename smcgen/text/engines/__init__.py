"""Engines that write texts.

`Transformers` runs models in this process, on our own KV cache; `VLLM` on vLLM's; `VLLMRequests` asks a `vllm.LLM`
whose engine is in other processes, `Remote` a server over HTTP.
"""

from typing import TYPE_CHECKING

from smcgen._lazy import lazy

if TYPE_CHECKING:
    from smcgen.text.engines._llm import VLLMRequests as VLLMRequests
    from smcgen.text.engines.base import Engine as Engine
    from smcgen.text.engines.base import Extension as Extension
    from smcgen.text.engines.base import Law as Law
    from smcgen.text.engines.base import Session as Session
    from smcgen.text.engines.remote import Remote as Remote
    from smcgen.text.engines.transformers import Transformers as Transformers
    from smcgen.text.engines.vllm import VLLM as VLLM

_NAMES = {
    **dict.fromkeys(("Engine", "Extension", "Law", "Session"), "smcgen.text.engines.base"),
    "Remote": "smcgen.text.engines.remote",
    "Transformers": "smcgen.text.engines.transformers",
    "VLLM": "smcgen.text.engines.vllm",
    "VLLMRequests": "smcgen.text.engines._llm",
}
__all__ = [
    "VLLM",
    "Engine",
    "Extension",
    "Law",
    "Remote",
    "Session",
    "Transformers",
    "VLLMRequests",
]
__getattr__, __dir__ = lazy(__name__, _NAMES)
