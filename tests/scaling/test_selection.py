"""Selection rules on texts made by hand."""

import jax
import numpy as np
import pytest

from smcgen.scaling.candidates import Candidates
from smcgen.scaling.rpc import RPC, likely
from smcgen.scaling.selection import BestOfMajority, as_selection, posterior_of, reweighted
from smcgen.text.texts import Finish


def made(rows):
    """Rows of (text, answer, weight, psi, log p, length, finish)."""
    texts, answers, weights, psi, log_p, lengths, finish = zip(*rows, strict=True)
    weights = np.array(weights, float)
    return Candidates(
        list(texts),
        list(answers),
        weights / weights.sum(),
        np.log(psi),
        np.array(psi, float),
        np.array(log_p, float),
        np.array(lengths),
        np.array([int(f) for f in finish]),
        np.arange(len(rows)),
    )


EOS, CUT = Finish.EOS, Finish.LENGTH
TEXTS = made(
    [
        ("one", "1", 0.30, 0.3, -1.0, 3, EOS),
        ("uno", "1", 0.20, 0.2, -2.0, 3, EOS),
        ("one", "1", 0.10, 0.3, -1.0, 3, EOS),
        ("two", "2", 0.90, 0.9, -9.0, 5, EOS),
        ("six", "6", 0.40, 0.4, -0.5, 2, EOS),
        ("sex", "6", 0.41, 0.41, -4.0, 4, EOS),
        ("cut", None, 0.99, 0.99, -0.1, 1, CUT),
    ]
)


def chosen(rule, of=TEXTS):
    rule = as_selection(rule)
    of = reweighted(of, rule.votes(of))
    return of.texts[rule.ranking(of, jax.random.key(0))[0]]


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        ("best", "two"),  # the cut one does not count while others ended
        ("weighted", "two"),
        ("majority", "one"),
        ("best-of-majority", "sex"),  # two votes or more, then the best text
        (BestOfMajority(share=3 / 7), "one"),
        ("shortest", "six"),
        (RPC(prune=False), "sex"),
    ],
)
def test_rules(rule, text):
    assert chosen(rule) == text


def test_perplexity_consistency_sums_distinct_texts():
    of = reweighted(TEXTS, RPC(prune=False).votes(TEXTS))
    p = {"1": np.exp(-1.0) + np.exp(-2.0), "2": np.exp(-9.0), "6": np.exp(-0.5) + np.exp(-4.0)}
    total = sum(p.values()) + np.exp(-0.1)
    posterior = posterior_of(of)
    assert posterior.none == pytest.approx(np.exp(-0.1) / total)
    assert dict(posterior) == pytest.approx({k: v / total for k, v in p.items()})


def test_pruning_separates_two_kinds_of_texts():
    rng = np.random.default_rng(0)
    low, high = rng.weibull(1.0, 40) * 0.01, 0.5 + rng.weibull(3.0, 15) * 0.4
    kept = likely(np.concatenate([low, high]))
    assert kept[40:].all()
    assert kept[:40].mean() < 0.2
    assert likely(np.ones(20)).all()
    assert likely(np.array([0.1, 0.9])).all()


def test_sample_draws_by_weight():
    rule = as_selection("sample")
    drawn = [int(rule.ranking(TEXTS, jax.random.key(k))[0]) for k in range(300)]
    counts = np.bincount(drawn, minlength=7)
    assert abs(counts - 300 * TEXTS.weights).max() < 5 * np.sqrt(300 * 0.25)


def test_no_possible_text():
    none = reweighted(TEXTS, np.zeros(7))
    for rule in ("best", "weighted", "majority", "best-of-majority", "shortest", "rpc", "sample"):
        assert as_selection(rule).votes(none).sum() == 0
        assert len(as_selection(rule).ranking(none, jax.random.key(0))) == 7
