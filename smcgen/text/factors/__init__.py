"""Token factors: what weights every token as it is drawn. See `base` for the contract.

`Regex`, `Choice`, `JSONSchema` and `Grammar` are hard constraints, `TokenMask` is one given by a
Python function, and `Expert` weights tokens by another language model.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smcgen.text.factors.base import FactorSession as FactorSession
    from smcgen.text.factors.base import TokenFactor as TokenFactor
    from smcgen.text.factors.expert import Expert as Expert
    from smcgen.text.factors.grammar import Choice as Choice
    from smcgen.text.factors.grammar import Grammar as Grammar
    from smcgen.text.factors.grammar import JSONSchema as JSONSchema
    from smcgen.text.factors.grammar import Regex as Regex
    from smcgen.text.factors.token_mask import TokenMask as TokenMask

_HOMES = {
    "FactorSession": "base",
    "TokenFactor": "base",
    "Expert": "expert",
    "Choice": "grammar",
    "Grammar": "grammar",
    "JSONSchema": "grammar",
    "Regex": "grammar",
    "TokenMask": "token_mask",
}
__all__ = [
    "FactorSession",
    "TokenFactor",
    "Expert",
    "Choice",
    "Grammar",
    "JSONSchema",
    "Regex",
    "TokenMask",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
