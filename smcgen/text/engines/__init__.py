"""Engines that write texts: `Transformers` runs models in this process, on our own KV cache."""

from typing import TYPE_CHECKING

from smcgen._lazy import lazy

if TYPE_CHECKING:
    from smcgen.text.engines.base import Engine as Engine
    from smcgen.text.engines.base import Extension as Extension
    from smcgen.text.engines.base import Law as Law
    from smcgen.text.engines.base import Session as Session
    from smcgen.text.engines.transformers import Transformers as Transformers

_NAMES = {
    **dict.fromkeys(("Engine", "Extension", "Law", "Session"), "smcgen.text.engines.base"),
    "Transformers": "smcgen.text.engines.transformers",
}
__all__ = ["Engine", "Extension", "Law", "Session", "Transformers"]
__getattr__, __dir__ = lazy(__name__, _NAMES)
