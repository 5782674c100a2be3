"""Strings that end a text, wherever they begin and end: across tokens, and across steps.

Other than the delimiters of steps, which are few and compiled for a whole vocabulary, these may come with each request;
so they are looked for byte by byte, in all texts at once.
"""

from collections.abc import Iterable, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Bool, Int

from smcgen.errors import InvalidArgument
from smcgen.text._torch.delimiter import automaton, token_bytes

_FLAT: "WeakKeyDictionary[Any, tuple[np.ndarray, np.ndarray, np.ndarray]]" = WeakKeyDictionary()


class StopStrings:
    """Stop strings of one tokenizer, as an automaton over bytes (Aho and Corasick, 1975).

    Attributes:
        found: the state in which a string is complete; texts begin in state 0.
    """

    def __init__(self, strings: Sequence[str], tokenizer: Any):
        self._after = automaton([s.encode() for s in strings])
        self.found = len(self._after) - 1
        self._bytes, self._start, self._size = _flat(tokenizer)

    def step(
        self, states: Int[np.ndarray, " m"], tokens: Int[np.ndarray, " m"]
    ) -> Int[np.ndarray, " m"]:
        """States after one more token each."""
        known = np.minimum(tokens, len(self._size) - 1)  # the last one stands for ids without text
        start, size = self._start[known], self._size[known]
        for j in range(int(size.max(initial=0))):
            byte = self._bytes[np.minimum(start + j, len(self._bytes) - 1)]
            states = np.where(j < size, self._after[states, byte], states)
        return states


class Until:
    """The search in some rows of a step that is being written; `states` are theirs so far."""

    def __init__(self, strings: StopStrings, states: Int[np.ndarray, " m"]):
        self._strings, self.states = strings, states.copy()

    def push(
        self, at: Int[np.ndarray, " a"], tokens: Int[np.ndarray, " a"]
    ) -> Bool[np.ndarray, " a"]:
        """Rows `at`, as indices below m, got a token each; which of them are at their end."""
        self.states[at] = self._strings.step(self.states[at], tokens)
        return self.states[at] == self._strings.found


def as_stops(stop: Any) -> tuple[str, ...]:
    """One string, or several, each once."""
    strings: tuple[Any, ...] = (stop,)
    if isinstance(stop, Iterable) and not isinstance(stop, str):
        strings = tuple(stop)
    if not all(isinstance(s, str) and s for s in strings):
        raise InvalidArgument("stop", stop, "a string that is not empty, or several")
    return tuple(dict.fromkeys(strings))


def before(text: str, stop: Sequence[str]) -> str:
    """What stands before the first of the strings."""
    found = [at for at in map(text.find, stop) if at >= 0]
    return text[: min(found, default=len(text))]


def _flat(tokenizer: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The bytes of all tokens in a row, where each token's begin, and how many they are; then one of none."""
    if tokenizer not in _FLAT:
        each = [*token_bytes(tokenizer), b""]
        size = np.array([len(b) for b in each])
        joined = np.frombuffer(b"".join(each) or b"\0", dtype=np.uint8)
        _FLAT[tokenizer] = joined, np.cumsum(size) - size, size
    return _FLAT[tokenizer]
