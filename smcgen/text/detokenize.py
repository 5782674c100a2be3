"""Token ids to text, only at the edges, and so that pieces join to the whole.

A character can be split over tokens (byte-level vocabularies) and a space can depend on its left
neighbour (SentencePiece), so a piece is decoded as the difference of two decoded prefixes, and
characters that are not complete yet are held back for the next piece.
"""

from collections.abc import Iterable, Sequence
from typing import Any

_INCOMPLETE = "\ufffd"


def decode(tokenizer: Any, ids: Sequence[int]) -> str:
    """Text of a whole sequence, special tokens left out, spaces as the model wrote them."""
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def decode_pieces(tokenizer: Any, pieces: Iterable[Sequence[int]]) -> list[str]:
    """Text of consecutive pieces of one sequence; joined, they are the text of the whole."""
    stream = Detokenizer(tokenizer)
    texts = [stream.push(piece) for piece in pieces]
    if texts:
        texts[-1] += stream.flush()
    return texts


class Detokenizer:
    """Incremental detokeniser of one growing sequence.

    Only a window of recent tokens is decoded again at each push, so a long text costs linear time.
    """

    def __init__(self, tokenizer: Any):
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        self._shown = 0  # ids[:_shown] have been returned as text, whole
        self._ahead = 0  # characters returned after them, before an incomplete one
        self._window = 0  # decoding starts here: at or before _shown, at a character boundary

    def push(self, ids: Sequence[int]) -> str:
        """Add tokens and return the text that is now certain."""
        self._ids += ids
        text = self._unseen()
        if text.endswith(_INCOMPLETE):
            certain = text.rstrip(_INCOMPLETE)
            ahead, self._ahead = self._ahead, max(self._ahead, len(certain))
            return certain[ahead:]
        ahead, self._ahead = self._ahead, 0
        if text:  # else the next token would have no left neighbour in the window
            self._window = self._shown
        self._shown = len(self._ids)
        return text[ahead:]

    def fork(self) -> "Detokenizer":
        """A copy that goes its own way."""
        twin = Detokenizer(self._tokenizer)
        twin._ids, twin._window = list(self._ids), self._window
        twin._shown, twin._ahead = self._shown, self._ahead
        return twin

    def flush(self) -> str:
        """Whatever is held back, when no more tokens come."""
        text, ahead = self._unseen(), self._ahead
        self._window = self._shown = len(self._ids)
        self._ahead = 0
        return text[ahead:]

    def _unseen(self) -> str:
        """Text of the tokens after `_shown`."""
        before = decode(self._tokenizer, self._ids[self._window : self._shown])
        return decode(self._tokenizer, self._ids[self._window :])[len(before) :]
