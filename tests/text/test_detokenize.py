"""Pieces of text join to the whole, and nothing certain is held back."""

import numpy as np

from smcgen.text.detokenize import Detokenizer, decode, decode_pieces
from tests.text.factors._vocab import byte_tokenizer
from tests.text.rewards._prms import sentencepiece

TEXT = "So é😀 a 语。\n\nSte 1"


def test_pieces_join_however_they_are_cut():
    rng = np.random.default_rng(0)
    for tokenizer in (byte_tokenizer([("Ġ", "a")]), sentencepiece()):
        ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"]
        for _ in range(50):
            cuts = sorted(rng.choice(len(ids) + 1, size=rng.integers(0, 8)))
            pieces = [ids[a:b] for a, b in zip([0, *cuts], [*cuts, len(ids)], strict=True)]
            assert "".join(decode_pieces(tokenizer, pieces)) == decode(tokenizer, ids) == TEXT


def test_only_the_incomplete_character_is_held_back():
    tokenizer = byte_tokenizer()
    a, *smile = tokenizer("a😀")["input_ids"]
    stream = Detokenizer(tokenizer)
    assert stream.push([a, smile[0]]) == "a"
    assert stream.push(smile[1:3]) == ""
    other = stream.fork()
    assert stream.push([smile[3], a]) == "😀a"
    assert other.push([a]).endswith("a")  # the character never came
    assert stream.push([a]) == "a"
    assert stream.flush() == ""


def test_flush_gives_what_is_left():
    tokenizer = byte_tokenizer()
    stream = Detokenizer(tokenizer)
    assert stream.push(tokenizer("aé")["input_ids"][:-1]) == "a"
    assert stream.flush() == "\ufffd"
    assert stream.flush() == ""
