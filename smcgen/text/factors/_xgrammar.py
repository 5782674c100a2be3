"""Grammars compiled for a tokenizer by xgrammar, as automata over its tokens.

Compiled once per (tokenizer, vocabulary size, end-of-text tokens, constraint).
"""

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from smcgen.errors import InvalidArgument, MissingExtra
from smcgen.text.factors.base import Setting

if TYPE_CHECKING:
    import torch
    from jaxtyping import Bool

_compiled: WeakKeyDictionary[Any, dict[Hashable, Any]] = WeakKeyDictionary()


def import_xgrammar() -> Any:
    """The xgrammar package. Raises `MissingExtra` if it is not installed."""
    try:
        import xgrammar
    except ImportError as error:
        raise MissingExtra("a grammar constraint", "xgrammar", "constraints") from error
    return xgrammar


def build(make: Callable[[], Any], name: str, got: Any) -> Any:
    """A grammar, with xgrammar's complaint as the reason if it cannot be built."""
    try:
        return make()
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().split("] ", 1)[-1]  # without the time stamp
        reason = reason.split(": ", 1)[-1] if reason.startswith("/") else reason
        raise InvalidArgument(name, got, f"something xgrammar can compile ({reason})") from error


class GrammarAutomaton:
    """A compiled grammar that reads one tokenizer's tokens; states are `GrammarMatcher`s.

    Args:
        key: identifies the grammar among those compiled for this tokenizer.
        grammar: makes the xgrammar grammar.
        setting: whose tokens are read; ids that the tokenizer lacks are forbidden, and so are
            special tokens, which leave no trace in the text.
    """

    def __init__(self, key: Hashable, grammar: Callable[[], Any], setting: Setting):
        import torch

        tokenizer, vocab_size, eos_ids = setting.tokenizer, setting.vocab_size, setting.eos_ids
        self._xgrammar = import_xgrammar()
        # A model that never ends a text still needs a stop token: one past its vocabulary.
        self._stop = sorted(i for i in eos_ids if i < vocab_size) or [vocab_size]
        self._width = max(vocab_size, self._stop[-1] + 1)
        self._vocab_size = vocab_size
        cache = _compiled.setdefault(tokenizer, {})
        tokens = (vocab_size, eos_ids)
        if (key, tokens) not in cache:
            if tokens not in cache:
                info = _tokenizer_info(self._xgrammar, tokenizer, self._width, self._stop)
                cache[tokens] = self._xgrammar.GrammarCompiler(info, cache_enabled=False)
            cache[key, tokens] = cache[tokens].compile_grammar(grammar())
        self._compiled = cache[key, tokens]
        usable = np.zeros(vocab_size, dtype=bool)
        usable[: min(len(tokenizer), vocab_size)] = True
        usable[[i for i in tokenizer.all_special_ids if i < vocab_size]] = False
        usable[[i for i in eos_ids if i < vocab_size]] = True
        self._usable = usable
        self._usable_there = torch.from_numpy(usable).to(setting.device)
        ones = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32)).view(np.int32)
        self._ones = torch.from_numpy(ones).to(setting.device)

    def start(self, problem: int) -> Any:
        return self._xgrammar.GrammarMatcher(self._compiled)

    def advance(self, state: Any, token: int, reuse: bool) -> Any | None:
        if state.is_terminated() or not (0 <= token < self._vocab_size and self._usable[token]):
            return None
        state = state if reuse else state.fork()
        return state if state.accept_token(token) else None

    def follow(self, state: Any, tokens: Sequence[int]) -> Any | None:
        state = state.fork()
        for token in tokens:
            if self.advance(state, token, reuse=True) is None:
                return None
        return state

    def allowed(self, states: list[Any]) -> "Bool[torch.Tensor, 'states vocab']":
        import torch

        from smcgen.text._torch.upload import upload

        bits = self._xgrammar.allocate_token_bitmask(len(states), self._width)
        for k, state in enumerate(states):
            if state is None or state.is_terminated():
                bits[k] = 0
            else:
                state.fill_next_token_bitmask(bits, k)
        if self._ones.device.type == "cpu":
            packed = bits.numpy().astype("<i4", copy=False).view(np.uint8)
            each = np.unpackbits(packed, axis=1, bitorder="little").view(bool)
            return torch.from_numpy(each[:, : self._vocab_size] & self._usable)
        bits = upload(bits, self._ones.device)  # packed: a 32nd of the mask
        allowed = ((bits[:, :, None] & self._ones) != 0).flatten(1)
        return allowed[:, : self._vocab_size] & self._usable_there

    def complete(self, state: Any) -> bool:
        return state.is_completed() or state.is_terminated()


def _tokenizer_info(xgrammar: Any, tokenizer: Any, width: int, stop: list[int]) -> Any:
    """What each token writes. Vocabularies of bytes are xgrammar's business; others are decoded."""
    decoder = tokenizer.backend_tokenizer.decoder if tokenizer.is_fast else None
    shown = repr(decoder)
    if not tokenizer.is_fast or "ByteLevel" in shown or "ByteFallback" in shown:
        return xgrammar.TokenizerInfo.from_huggingface(
            tokenizer, vocab_size=width, stop_token_ids=stop
        )

    def decode(*ids: int) -> str:
        return tokenizer.decode(
            list(ids), skip_special_tokens=True, clean_up_tokenization_spaces=False
        )

    special = set(tokenizer.all_special_ids)
    count = min(len(tokenizer), width)
    texts = ["" if i in special else decode(i) for i in range(count)]
    some = [i for i in range(count) if texts[i]][:16]
    if any(decode(i, j) != texts[i] + texts[j] for i in some for j in some):
        raise InvalidArgument(
            "tokenizer",
            type(tokenizer).__name__,
            f"one whose texts are their tokens' texts joined; {decode(*some[:3])!r} are the tokens "
            f"{[texts[i] for i in some[:3]]} (a word-level tokenizer needs `decoders.Fuse()`)",
        )
    vocabulary = texts + [""] * (width - count)
    return xgrammar.TokenizerInfo(vocabulary, vocab_size=width, stop_token_ids=stop)
