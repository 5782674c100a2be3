"""Token factors: what weights every token as it is drawn. See `base` for the contract.

`Regex`, `Choice`, `JSONSchema` and `Grammar` are hard constraints, `TokenMask` is one given by a
Python function, and `Expert` weights tokens by another language model.
"""

from typing import TYPE_CHECKING

from smcgen._lazy import lazy

if TYPE_CHECKING:
    from smcgen.text.factors.base import FactorSession as FactorSession
    from smcgen.text.factors.base import TokenFactor as TokenFactor
    from smcgen.text.factors.expert import Expert as Expert
    from smcgen.text.factors.grammar import Choice as Choice
    from smcgen.text.factors.grammar import Grammar as Grammar
    from smcgen.text.factors.grammar import JSONSchema as JSONSchema
    from smcgen.text.factors.grammar import Regex as Regex
    from smcgen.text.factors.token_mask import TokenMask as TokenMask

_NAMES = {
    "FactorSession": "smcgen.text.factors.base",
    "TokenFactor": "smcgen.text.factors.base",
    "Expert": "smcgen.text.factors.expert",
    "Choice": "smcgen.text.factors.grammar",
    "Grammar": "smcgen.text.factors.grammar",
    "JSONSchema": "smcgen.text.factors.grammar",
    "Regex": "smcgen.text.factors.grammar",
    "TokenMask": "smcgen.text.factors.token_mask",
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
__getattr__, __dir__ = lazy(__name__, _NAMES)
