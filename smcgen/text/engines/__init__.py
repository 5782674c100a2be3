"""Engines that write texts: `Transformers` runs models in this process, on our own KV cache."""

from typing import TYPE_CHECKING, Any

from smcgen.text.engines.base import Engine as Engine
from smcgen.text.engines.base import Extension as Extension
from smcgen.text.engines.base import Law as Law
from smcgen.text.engines.base import Session as Session

if TYPE_CHECKING:
    from smcgen.text.engines.transformers import Transformers as Transformers

__all__ = ["Engine", "Extension", "Law", "Session", "Transformers"]


def __getattr__(name: str) -> Any:
    if name == "Transformers":  # imports torch: only for those who use it
        from smcgen.text.engines.transformers import Transformers

        return Transformers
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
