"""Grammar constraints accept exactly their language, whatever happens to the rows."""

import itertools
import json
import re
from typing import Any

import numpy as np
import pytest

pytest.importorskip("xgrammar")

from jaxtyping import TypeCheckError
from pydantic import BaseModel

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument, MissingExtra, RewardError
from smcgen.text.factors import Choice, Grammar, JSONSchema, Regex, TokenMask
from smcgen.text.factors.base import Setting
from smcgen.text.prompts import Prompt
from tests.text.factors._vocab import EOS, byte_tokenizer, char_tokenizer

ALPHABET = "ab0-\n"
PATTERNS = [
    r"a(b|0)*-",
    r"^ab?$",
    r"a|b0|^0b",
    r"[^a]{2,3}",
    r"(?:ab)+0?",
    r".*",
    r"(?s).*",
    r"\d*\D\w?",
    r"[\w-]+\s",
    r"(a*?b)*",
    r"(|a)(|b){2}",
    r"[^\W0]+\Z",
    r"(?P<x>a)[-0]",
    r"",
    r"0{3,}",
]


def start(factor, tokenizer, n=1, vocab=None, eos=frozenset({EOS}), problems=1, **kw):
    prompts = [Prompt((1,), "")] * problems
    return factor.open_factor(
        Setting(prompts, n, tokenizer, vocab or len(tokenizer), eos, "cpu", Meter(), **kw)
    )


def language(factor, tokenizer, most):
    """All texts of at most `most` tokens that the masks allow to end, by depth-first search."""
    found = []
    frontier = [()]
    while frontier:
        session = start(factor, tokenizer, n=len(frontier), completions=frontier)
        rows = np.arange(len(frontier))
        allowed = np.isfinite(session.log_phi(rows).numpy())
        complete = np.isfinite(session.log_cut(rows))
        if factor.incomplete == "zero":
            assert (allowed[:, EOS] == complete).all()  # "may end" means the same twice
        found += [ids for ids, mask in zip(frontier, allowed, strict=True) if mask[EOS]]
        frontier = [
            (*ids, int(v))
            for ids, mask in zip(frontier, allowed, strict=True)
            for v in np.flatnonzero(mask)
            if v != EOS and len(ids) < most
        ]
    return {tokenizer.decode(list(ids)) for ids in found}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_regex_language_is_that_of_fullmatch(pattern):
    most = 5
    texts = {"".join(t) for k in range(most + 1) for t in itertools.product(ALPHABET, repeat=k)}
    wanted = {t for t in texts if re.fullmatch(pattern, t, re.ASCII)}
    assert language(Regex(pattern), char_tokenizer(ALPHABET), most) == wanted


def test_language_of_bytes_and_merges():
    merges = [("a", "b"), ("Ã", "©")]  # the second is one character, é, of two bytes
    tokenizer = byte_tokenizer(merges)
    assert language(Regex("(ab|é)c?"), tokenizer, 4) == {"ab", "abc", "é", "éc"}


def test_context_free_grammar_and_choice():
    balanced = Grammar('root ::= "a" root "b" | ""')
    assert language(balanced, char_tokenizer(ALPHABET), 6) == {"", "ab", "aabb", "aaabbb"}
    options = ["a", "ab", '0"\\\n', "b-"]
    tokenizer = char_tokenizer('ab0-\n"\\')
    assert language(Choice(options), tokenizer, 6) == set(options)


@pytest.mark.parametrize("seed", range(5))
def test_masks_survive_take_drop_and_ragged_pushes(seed):
    rng = np.random.default_rng(seed)
    tokenizer, n, problems = char_tokenizer(ALPHABET), 6, 2
    pattern = r"(ab|a0+)*-?b"
    session = start(Regex(pattern), tokenizer, n, problems=problems, vocab=len(tokenizer) + 3)
    texts = [[] for _ in range(n * problems)]
    for _ in range(25):
        live = np.asarray([i for i, t in enumerate(texts) if EOS not in t])
        if len(live):
            rows = rng.choice(live, size=rng.integers(1, len(live) + 1), replace=False)
            phi = session.log_phi(rows).numpy()
            fresh = start(
                Regex(pattern), tokenizer, len(rows), len(tokenizer) + 3,
                completions=[texts[i] for i in rows],
            )  # fmt: skip
            np.testing.assert_array_equal(phi, fresh.log_phi(np.arange(len(rows))).numpy())
            np.testing.assert_array_equal(
                session.log_cut(rows), fresh.log_cut(np.arange(len(rows)))
            )
            assert np.isneginf(phi[:, len(tokenizer) :]).all()
            tokens = np.asarray([rng.choice(np.flatnonzero(np.isfinite(p))) for p in phi])
            session.push(rows, tokens)
            for i, v in zip(rows, tokens, strict=True):
                texts[i].append(int(v))
        dropped = rng.choice(n * problems, size=2, replace=False)
        session.drop(dropped)
        alive = np.setdiff1d(np.arange(n * problems), dropped)
        ancestors = np.concatenate(
            [rng.choice(alive[alive // n == p], size=n) for p in range(problems)]
        )
        session.take(ancestors)
        texts = [list(texts[a]) for a in ancestors]
    for text in texts:
        if EOS in text:
            assert re.fullmatch(pattern, tokenizer.decode(text[:-1]))


def test_equal_histories_share_one_state():
    session = start(Regex("a*b*"), char_tokenizer(ALPHABET), n=8)
    rows = np.arange(8)
    session.push(rows, np.full(8, 1))
    assert len(set(session._row.tolist())) == 1
    session.push(rows, np.asarray([1, 1, 1, 1, 2, 2, 2, 2]))
    assert len(set(session._row.tolist())) == 2
    session.take(np.zeros(8, int))
    assert len(session._states) == 2  # the dead state and the one that is left


def test_forbidden_tokens():
    tokenizer = char_tokenizer("ab", extra=("<eos>", "<pad>", "<tool>"))
    phi = start(Regex("(?s).*"), tokenizer, vocab=12).log_phi(np.asarray([0])).numpy()[0]
    assert np.flatnonzero(np.isfinite(phi)).tolist() == [EOS, 3, 4]
    without = start(Regex("a?"), tokenizer, vocab=12, eos=frozenset())
    assert np.flatnonzero(np.isfinite(without.log_phi(np.asarray([0])).numpy())).tolist() == [3]
    assert without.log_cut(np.asarray([0])) == 0
    without.push(np.asarray([0]), np.asarray([3]))
    assert np.isneginf(without.log_phi(np.asarray([0])).numpy()).all()
    assert without.log_cut(np.asarray([0])) == 0


def test_refused_prefix_is_dead_and_terminated_rows_allow_nothing():
    tokenizer = char_tokenizer(ALPHABET)
    session = start(Regex("ab"), tokenizer, n=3, completions=[[2], [1, 2, EOS], [1]])
    rows = np.arange(3)
    assert np.isfinite(session.log_phi(rows).numpy()).sum(1).tolist() == [0, 0, 1]
    assert session.log_cut(rows).tolist() == [-np.inf, 0, -np.inf]
    lenient = start(Regex("ab", incomplete="allow"), tokenizer, n=2, completions=[[2], [1]])
    assert lenient.log_cut(np.arange(2)).tolist() == [-np.inf, 0]


def test_word_level_tokenizer_that_adds_spaces_is_refused():
    with pytest.raises(InvalidArgument, match="Fuse"):
        start(Regex("ab"), char_tokenizer(ALPHABET, fuse=False))


class Person(BaseModel):
    name: str
    age: int


SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}, "ok": {"type": "boolean"}},
    "required": ["n", "ok"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("schema", [SCHEMA, json.dumps(SCHEMA), Person])
@pytest.mark.parametrize("whitespace", [True, False])
def test_json_schema_writes_json(schema, whitespace):
    rng = np.random.default_rng(0)
    tokenizer = byte_tokenizer([("a", "g"), ('"', ":")])
    session = start(JSONSchema(schema, whitespace=whitespace), tokenizer, n=4)
    texts = [[] for _ in range(4)]
    for _ in range(400):
        live = np.asarray([i for i, t in enumerate(texts) if EOS not in t])
        if not len(live):
            break
        phi = session.log_phi(live).numpy()
        # Ending and closing are preferred, so that strings and whitespace do not go on for ever.
        prefer = [EOS, *tokenizer.convert_tokens_to_ids(list('"},'))]
        tokens = []
        for p in phi:
            allowed = np.flatnonzero(np.isfinite(p))
            close = [v for v in prefer if v in allowed]
            tokens.append(close[0] if close and rng.random() < 0.4 else rng.choice(allowed))
        session.push(live, np.asarray(tokens))
        for i, v in zip(live, tokens, strict=True):
            texts[i].append(int(v))
    for text in texts:
        assert text[-1] == EOS
        value = json.loads(tokenizer.decode(text[:-1]))
        if schema is Person:
            Person.model_validate(value, strict=True)
        else:
            assert set(value) == {"n", "ok"}
            assert isinstance(value["ok"], bool)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Regex("(a"), "unterminated"),
        (lambda: Regex("a**"), "multiple repeat"),
        (lambda: Regex("(?=a)b"), "look-around"),
        (lambda: Regex(r"(a)\1"), "back-references"),
        (lambda: Regex(r"\bab"), "anchors"),
        (lambda: Regex("a^b"), "anchors"),
        (lambda: Regex("(a$)+"), "anchors"),
        (lambda: Regex("(?i)ab"), "flags"),
        (lambda: Regex("a++"), "possessive"),
        (lambda: Grammar('root ::= "a" other'), "not defined"),
        (lambda: Grammar('start ::= "a"'), "root"),
        (lambda: JSONSchema("{bad"), "JSON"),
        (lambda: JSONSchema({"type": "nonsense"}), "nonsense"),
        (lambda: JSONSchema(3), "mapping"),
        (lambda: JSONSchema(Person(name="a", age=1)), "model class"),
        (lambda: Choice("yes"), "list"),
        (lambda: Choice([]), "at least one"),
    ],
)
def test_bad_constraints_say_why(make, reason):
    with pytest.raises(InvalidArgument, match=reason):
        make()


@pytest.mark.parametrize("make", [lambda: Regex(3), lambda: Regex("a", incomplete="maybe")])
def test_arguments_of_the_wrong_type(make):
    with pytest.raises((InvalidArgument, TypeCheckError)):
        make()


def test_power_of_a_constraint():
    part = Regex("a")
    assert (part**2.5) is part
    assert part.factors() == (part,)
    for strength in (0.0, -1.0):
        with pytest.raises(InvalidArgument):
            part**strength


def test_missing_extra(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "xgrammar", None)
    with pytest.raises(MissingExtra, match="constraints"):
        Regex("a")


def test_token_mask():
    tokenizer = char_tokenizer(ALPHABET)
    seen = []

    def no_repeats(completions):
        seen.append(completions)
        return [[v for v in range(3) if not ids or v != ids[-1]] for ids in completions]

    texts = language(TokenMask(no_repeats), tokenizer, 3)
    assert texts == {"a", "b", "ab", "ba", "aba", "bab", ""}
    session = start(TokenMask(no_repeats, incomplete="zero"), tokenizer, n=3)
    seen.clear()
    session.log_phi(np.arange(3))
    assert seen == [[[]]]  # equal rows are asked about once
    mask = np.ones(len(tokenizer), bool)
    by_mask = TokenMask(lambda prompts, ids: [mask] * len(ids), prompts=True)
    assert np.isfinite(start(by_mask, tokenizer).log_phi(np.asarray([0])).numpy()).all()


@pytest.mark.parametrize("ids", [[-1], [0, 99], [0.5], [[0]]], ids=repr)
def test_a_token_mask_of_ids_that_do_not_exist(ids):
    session = start(
        TokenMask(lambda completions: [ids for _ in completions]), char_tokenizer(ALPHABET)
    )
    with pytest.raises(RewardError, match=r"expected token ids in \[0, "):
        session.log_phi(np.asarray([0]))


def test_closing_frees_the_states():
    session: Any = start(Regex("a*"), char_tokenizer(ALPHABET), n=3)
    session.close()
    assert session._states == {0: None}
