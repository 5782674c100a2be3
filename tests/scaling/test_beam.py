"""Searches that keep the best: exact laws by enumeration."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcgen import scaling
from smcgen.core.cost import Meter
from smcgen.scaling.lookahead import Lookahead
from smcgen.scaling.top import Top
from smcgen.text.prompts import encode
from smcgen.text.texts import Finish, Texts
from tests.laws import assert_law
from tests.scaling import exact
from tests.text.toy import EOS, warp


def children(ids):
    """Each continuation of a text by a token, with its probability; a finished text is its own."""
    if ids and (ids[-1] == EOS or len(ids) == exact.TOKENS):
        return {ids: 1.0}
    node = 0
    for v in ids:
        node = node * EOS + v + 1
    logits = warp(exact.ENGINE.logits[node : node + 1], exact.WRITING.sampling)[0]
    return {(*ids, v): float(np.exp(lp)) for v, lp in enumerate(logits)}


def psi(ids):
    return exact.psi(exact.ENGINE.tokenizer.decode(ids))


def best_of_two(law, rank):
    """The law of the better of two draws; which of equals does not matter to what follows if they are classes."""
    found = {}
    for x, p in law.items():
        upto = sum(q for y, q in law.items() if rank(y) <= rank(x))
        below = sum(q for y, q in law.items() if rank(y) < rank(x))
        found[x] = p / (upto - below) * (upto**2 - below**2)
    return found


def mixed(laws):
    total = {}
    for share, law in laws:
        for x, p in law.items():
            total[x] = total.get(x, 0.0) + share * p
    return total


FINAL = lambda ids: (ids[-1] == EOS, psi(ids))


def climbed():
    """The law of the better of two continuations, continued by two, until it is finished."""
    kept = {(): 1.0}
    for t in range(exact.TOKENS):
        rank = FINAL if t == exact.TOKENS - 1 else psi
        # of a finished text there are only copies, and the better of two copies is itself
        kept = mixed((p, best_of_two(children(ids), rank)) for ids, p in kept.items())
    return kept


def assert_chosen(outcomes, law):
    ended = lambda o: bool(o.finish[o.chosen] == Finish.EOS)
    chosen = [(ended(o), round(exact.psi(o.text), 6)) for o in outcomes]
    expected = mixed((p, {(x[-1] == EOS, round(psi(x), 6)): 1.0}) for x, p in law.items())
    cells = list(expected)
    assert_law(np.array([chosen.count(c) for c in cells]), np.array([expected[c] for c in cells]))


@pytest.mark.slow
def test_dvts_follows_its_law():
    """Two greedy searches of two continuations each; the better of their ends by (ended, psi)."""
    assert_chosen(exact.run(scaling.DVTS(width=2)), best_of_two(climbed(), FINAL))


@pytest.mark.slow
def test_a_beam_of_all_continuations_finds_the_best_text_that_it_wrote():
    outcomes = exact.run(scaling.BeamSearch(width=2), prompts=8)
    for o in outcomes:
        alive = o.weights > 0
        texts = [t for t, on in zip(o.texts, alive, strict=True) if on]
        ends = {(t, int(f)) for t, f, on in zip(o.texts, o.finish, alive, strict=True) if on}
        assert len(ends) == len(texts)  # equal finished texts count once
        np.testing.assert_allclose(
            o.weights[alive],
            np.exp(o.candidates.log_psi[alive]) / np.exp(o.candidates.log_psi[alive]).sum(),
            rtol=1e-4,
        )


KEY = jax.random.key(0)  # it is not used


def test_top_keeps_the_heaviest_of_each_group():
    lw = jnp.log(jnp.array([0.1, 0.4, 0.2, 0.0, 0.0, 0.3, 0.0, 0.0]))
    ancestors, new = Top(2).weighted(KEY, lw)
    assert ancestors.tolist() == [1, 5] * 4
    np.testing.assert_allclose(new, lw[ancestors])
    assert Top(2, 2).weighted(KEY, lw)[0].tolist() == [1, 2, 1, 2, 5, 5, 5, 5]
    assert Top(1, 4).weighted(KEY, lw)[0].tolist() == [1, 1, 2, 2, 5, 5, 6, 6]


@pytest.mark.parametrize("steps", [1, 2])
def test_lookahead_scores_the_greedy_continuation(steps):
    written = [(0,), (1, 2), (0, 1), (3, EOS)]
    finish = np.array([0, 0, 0, Finish.EOS], np.int8)
    prompt = encode(exact.ENGINE.tokenizer, "a")
    lengths = np.array([len(w) for w in written], np.int32)
    ids = np.array([[*w, *[-1] * (2 - len(w))] for w in written], np.int32)
    texts = Texts([prompt], 4, ids, lengths, lengths[:, None], finish, exact.ENGINE.tokenizer)
    expected = []
    for ids in written:
        for _ in range(steps):
            law = children(ids)
            ids = max(law, key=lambda x: law[x])
        expected.append(psi(ids))
    part = Lookahead(exact.REWARD, exact.ENGINE, steps, 1, exact.TOKENS)
    session = part.open_reward([prompt], 4, exact.ENGINE.tokenizer, Meter())
    np.testing.assert_allclose(session.score(texts, np.arange(4)), expected)
