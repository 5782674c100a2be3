import numpy as np
import pytest

from smcgen.text._torch.delimiter import delimiters, token_bytes
from tests.text.engines.tokenizers import byte_level, sentencepiece, word_level

TOKENIZERS = {"byte-level": byte_level, "sentencepiece": sentencepiece, "word-level": word_level}


def _first_hit(compiled, ids: list[int]) -> int | None:
    state = np.zeros(1, dtype=np.int64)
    for i, token in enumerate(ids):
        state, found = compiled.step(state, np.array([token]))
        if found[0]:
            return i
    return None


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize(
    "strings",
    [("\n\n",), ("aab",), ("é", "##"), (" w5",), ("ab", "aabaac"), ("0€",), ("<eos>", "漢")],
)
def test_hits_are_those_of_a_search_in_the_text(kind: str, strings: tuple[str, ...]):
    tokenizer = TOKENIZERS[kind]()
    size = len(tokenizer)
    pieces = token_bytes(tokenizer)
    compiled = delimiters(tokenizer, strings, size + 3)
    rng = np.random.default_rng(0)
    # tokens that share a byte with a delimiter, and above all parts of one: hits and near misses
    near = [i for i, p in enumerate(pieces) if any(set(p) & set(s.encode()) for s in strings)]
    inside = [i for i, p in enumerate(pieces) if p and any(p in s.encode() for s in strings)]
    if not inside:
        assert kind == "word-level"
        return
    hits = 0
    for _ in range(400):
        ids = np.where(rng.random(12) < 0.2, rng.choice(near, 12), rng.choice(inside, 12)).tolist()
        text = b""
        want = None
        for i, token in enumerate(ids):
            text += pieces[token]
            if any(s.encode() in text for s in strings):
                want = i
                break
        assert _first_hit(compiled, ids) == want
        hits += want is not None
    assert hits > 1


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_token_bytes_join_to_the_decoded_text(kind: str):
    tokenizer = TOKENIZERS[kind]()
    pieces = token_bytes(tokenizer)
    # a run of byte tokens is shown as broken, or not, as a whole
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    special = tokenizer.all_special_ids
    ordinary = [i for i, t in enumerate(names) if i not in special and not t.startswith("<0x")]
    rng = np.random.default_rng(1)
    anchor = next(i for i in ordinary if tokenizer.decode([i]).strip().isalnum())
    for _ in range(100):
        ids = [anchor, *rng.choice(ordinary, 8).tolist()]
        text = tokenizer.decode(ids, clean_up_tokenization_spaces=False)
        tail = b"".join(pieces[i] for i in ids[1:]).decode("utf-8", errors="replace")
        # how many marks stand for broken characters is the decoder's choice
        squeeze = lambda s: "".join(c for c in s if c != "\ufffd")
        assert squeeze(text) == squeeze(tokenizer.decode([anchor]) + tail)


def test_a_delimiter_split_over_tokens_and_inside_one():
    tokenizer = byte_level()
    newline = tokenizer.convert_tokens_to_ids("Ċ")
    compiled = delimiters(tokenizer, ("\n\n",), len(tokenizer))
    letter = tokenizer.convert_tokens_to_ids("a")
    assert _first_hit(compiled, [letter, newline, newline]) == 2
    assert _first_hit(compiled, [newline, letter, newline]) is None
    double = tokenizer.convert_tokens_to_ids("ĊĊ")
    if double is not None:
        assert _first_hit(compiled, [letter, double]) == 1
    # a character of three bytes, one byte a token
    euro = [tokenizer.convert_tokens_to_ids(c) for c in "âĤ¬"]
    assert _first_hit(delimiters(tokenizer, ("€",), len(tokenizer)), euro) == 2


def test_compiled_delimiters_are_cached_and_unknown_ids_change_nothing():
    tokenizer = byte_level()
    size = len(tokenizer)
    compiled = delimiters(tokenizer, ("ab",), size + 5)
    assert delimiters(tokenizer, ("ab",), size + 5) is compiled
    a, b = tokenizer.convert_tokens_to_ids(["a", "b"])
    assert _first_hit(compiled, [a, size + 4, b]) == 2
