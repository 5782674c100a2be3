"""Exact search for delimiters in a stream of tokens.

A delimiter may begin inside one token and end inside another. All delimiters of a step are compiled into one
automaton over bytes (Aho and Corasick, 1975), and that into a table `(states, vocab)` of the state after each token,
with one absorbing state for "found": a step is checked by one look-up per token.
"""

import re
from collections.abc import Sequence
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import Bool, Int

_TABLES: "WeakKeyDictionary[Any, dict[Any, Delimiters]]" = WeakKeyDictionary()
_BYTES: "WeakKeyDictionary[Any, list[bytes]]" = WeakKeyDictionary()


class Delimiters:
    """Delimiters compiled for a vocabulary.

    Attributes:
        table: state after each token, shape (states + 1, vocab); a step starts in state 0.
        found: the absorbing state.
    """

    def __init__(self, delimiters: Sequence[str], tokens: Sequence[bytes], vocab_size: int):
        steps = automaton([d.encode() for d in delimiters])
        self.found = len(steps) - 1
        state = np.repeat(np.arange(len(steps))[:, None], vocab_size, axis=1)
        known = tokens[:vocab_size]
        lengths = np.array([len(t) for t in known], dtype=np.int64)
        order = np.argsort(-lengths, kind="stable")  # longest first: shorter ones drop off the end
        sizes = lengths[order]
        for j in range(int(lengths.max(initial=0))):
            these = order[: np.searchsorted(-sizes, -j)]
            byte = np.frombuffer(bytes(known[i][j] for i in these), dtype=np.uint8)
            state[:, these] = steps[state[:, these], byte]
        self.table = state.astype(np.int16 if len(steps) < 2**15 else np.int32)

    def step(
        self, state: Int[np.ndarray, " m"], tokens: Int[np.ndarray, " m"]
    ) -> tuple[Int[np.ndarray, " m"], Bool[np.ndarray, " m"]]:
        """States after one more token each, and whether a delimiter is complete."""
        state = self.table[state, tokens]
        return state, state == self.found


def delimiters(tokenizer: Any, strings: Sequence[str], vocab_size: int) -> Delimiters:
    """The compiled delimiters of a tokenizer, from a cache; `vocab_size` is the width of the logits."""
    tables = _TABLES.setdefault(tokenizer, {})
    key = (tuple(strings), vocab_size)
    if key not in tables:
        tables[key] = Delimiters(strings, token_bytes(tokenizer), vocab_size)
    return tables[key]


def automaton(patterns: Sequence[bytes]) -> Int[np.ndarray, "states 256"]:
    """State after each byte; the last state is "found"."""
    trie: list[dict[int, int]] = [{}]
    ends = set()
    for pattern in patterns:
        node = 0
        for byte in pattern:
            if byte not in trie[node]:
                trie[node][byte] = len(trie)
                trie.append({})
            node = trie[node][byte]
        ends.add(node)
    found = len(trie)
    steps = np.zeros((found + 1, 256), dtype=np.int64)
    steps[found] = found
    queue, fallback = [0], {0: 0}
    for node in queue:
        back = fallback[node]
        if node:
            steps[node] = steps[back]  # breadth first: the shorter suffix is done already
        for byte, child in trie[node].items():
            fallback[child] = int(steps[back, byte]) if node else 0
            if fallback[child] in ends or fallback[child] == found:
                ends.add(child)
            steps[node, byte] = child
            queue.append(child)
    return np.where(np.isin(steps, list(ends)), found, steps)


def token_bytes(tokenizer: Any) -> list[bytes]:
    """The bytes that each token adds to a text when it is not the first.

    Found by decoding each token behind an ordinary one, so spaces come out as the tokenizer's decoder
    writes them; a token that is part of a character is looked up in the byte alphabet. Special tokens
    count as their own spelling, so that one can be a delimiter.
    """
    if tokenizer not in _BYTES:
        size = max(len(tokenizer), 1 + max(tokenizer.get_vocab().values(), default=0))
        alone = _decode_all(tokenizer, [[i] for i in range(size)])
        anchor = next((i for i, t in enumerate(alone) if t.strip().isalnum() and t.isascii()), None)
        behind = alone
        if anchor is not None:
            behind = _decode_all(tokenizer, [[anchor, i] for i in range(size)])
        head = "" if anchor is None else alone[anchor]
        names = tokenizer.convert_ids_to_tokens(list(range(size)))
        _BYTES[tokenizer] = [
            _bytes(text[len(head) :] if text.startswith(head) else single, name)
            for text, single, name in zip(behind, alone, names, strict=True)
        ]
    return _BYTES[tokenizer]


def _decode_all(tokenizer: Any, many: list[list[int]]) -> list[str]:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        return backend.decode_batch(many, skip_special_tokens=False)
    return [
        tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        for ids in many
    ]


def _bytes(text: str, name: str | None) -> bytes:
    if "\ufffd" in text and name is not None:
        byte = re.fullmatch(r"<0x([0-9A-Fa-f]{2})>", name)
        if byte:
            return bytes([int(byte[1], 16)])
        alphabet = _byte_alphabet()
        if all(c in alphabet for c in name):
            return bytes(alphabet[c] for c in name)
    return text.encode("utf-8", errors="replace")


@cache
def _byte_alphabet() -> dict[str, int]:
    """The characters by which byte-level vocabularies write bytes (Radford et al., 2019)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    return {chr(b): b for b in shown} | {chr(256 + i): b for i, b in enumerate(hidden)}
