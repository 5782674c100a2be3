"""Parallel tempering: swaps leave the joint law as it is, and the sweeps go to the target."""

import numpy as np
import pytest

from smcgen import scaling
from smcgen.errors import InvalidArgument
from smcgen.scaling.exchange import exchanged
from tests.laws import assert_law, assert_unbiased
from tests.scaling import exact
from tests.text.paths import path_of
from tests.text.toy import EOS

STRENGTHS = 6.0, 2.0, 0.5


class Limits:
    """What `path_of` must know of a model of the toy's texts."""

    max_tokens, engine, stop = exact.TOKENS, exact.ENGINE, ()


def test_swaps_leave_the_product_of_the_laws_invariant():
    """The joint law of what three chains have (ended or cut texts, small or large psi) after two rounds of swaps."""
    law = exact.ENGINE.law(exact.TOKENS)
    texts, log_p = list(law), np.array(list(law.values()))
    r = np.log([exact.psi(exact.ENGINE.tokenizer.decode(ids)) for ids in texts])
    pi = np.exp(log_p + np.outer(STRENGTHS, r))
    pi /= pi.sum(1, keepdims=True)
    rng, runs = np.random.default_rng(0), 4000
    drawn = np.array([rng.choice(len(texts), runs, p=p) for p in pi])
    one_token = lambda ids: len(ids) == 1
    paths = [path_of([texts[i] for i in row], one_token, Limits) for row in drawn]
    swaps = 0
    for first in (0, 1):
        at = indices(paths, texts)
        paths, taken = exchanged(paths, STRENGTHS, r[at], first, rng.random((1, runs)))
        swaps += taken.sum()
    assert swaps > 0.2 * runs
    kind = (r > np.log(0.5)).astype(int) + 2 * np.array([ids[-1] == EOS for ids in texts])
    after = kind[indices(paths, texts)]
    counts = np.bincount(np.ravel_multi_index(tuple(after), (4, 4, 4)), minlength=64)
    parts = np.array([np.bincount(kind, p, minlength=4) for p in pi])
    assert_law(counts, np.einsum("a,b,c->abc", *parts).ravel())


def indices(paths, texts):
    """Which text each chain of each run has."""
    number = {ids: i for i, ids in enumerate(texts)}
    tokens = [np.concatenate([record.tokens for record in path], 1) for path in paths]
    return np.array([[number[tuple(row[row >= 0])] for row in chain] for chain in tokens])


@pytest.mark.slow
def test_the_chain_of_full_strength_goes_to_the_target():
    """Two texts a sweep: a filter of two is far from the target, the fifth sweep is at it."""
    z = sum(p * exact.psi(text) ** 4 for (text, _), p in exact.law().items())
    value = lambda text: float(text.count("a"))
    target = sum(p * exact.psi(t) ** 4 * value(t) for (t, _), p in exact.law().items()) / z
    strategy = scaling.ParallelTempering(sweeps=5, strength=4.0, ess_threshold=1.0)
    outcomes = exact.run(strategy, 20, prompts=120)
    assert {len(o.runs) for o in outcomes} == {5}
    mean = lambda run: sum(w * value(t) for w, t in zip(run.weights, run.texts, strict=True))
    last = np.array([mean(o.runs[-1]) for o in outcomes])
    assert_unbiased(last - target + 1.0, 1.0)
    spent = sum(run.cost.tokens_generated for run in outcomes[0].runs)
    assert outcomes[0].cost.tokens_generated > 1.5 * spent  # the other chain costs as much


def test_what_is_no_ladder():
    for ladder in ((), (0.5,), (1.0, 0.5), (0.0, 1.0)):
        with pytest.raises(InvalidArgument, match="ladder="):
            scaling.ParallelTempering(ladder=ladder)


def test_a_budget_too_small_for_all_chains_is_one_chains():
    """Five chains and four texts: two sweeps of two, as of particle Gibbs, and both count."""
    ladder = (0.2, 0.4, 0.6, 0.8, 1.0)
    alone = exact.run(scaling.ParticleGibbs(), 4, 3)
    found = exact.run(scaling.ParallelTempering(ladder=ladder), 4, 3)
    for one, other in zip(found, alone, strict=True):
        assert len(one.candidates.texts) == 4
        assert one.candidates.texts == other.candidates.texts
