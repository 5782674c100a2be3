"""How many texts a problem gets: stopping and allocation against closed forms."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import beta

from smcgen import scaling
from smcgen.errors import InvalidArgument
from smcgen.scaling.allocation import neyman
from smcgen.scaling.leading import leads
from tests.laws import assert_law, assert_unbiased
from tests.scaling import exact


def test_the_probability_of_leading():
    # one answer against one not seen: the beta tail; nothing known of three answers: one in three
    for votes in (1.0, 3.0, 7.5):
        assert leads(np.array([votes])) == pytest.approx(beta.sf(0.5, votes + 1, 1), rel=1e-5)
    two = leads(np.array([4.0, 2.0]), prior=1e-6)
    assert two == pytest.approx(beta.sf(0.5, 4, 2), rel=1e-4)
    assert leads(np.array([0.0, 0.0]), prior=2.0) == pytest.approx(1 / 3, rel=1e-5)
    assert leads(np.array([])) == 0.0
    draws = np.random.default_rng(0).dirichlet([4.0, 6.0, 2.0, 1.0], 20_000)
    first = (draws.argmax(1) == 1).astype(float)
    assert_unbiased(first, leads(np.array([3.0, 5.0, 1.0])))


@pytest.mark.slow
def test_texts_stop_when_exact_counts_say_so():
    """The law of the number of texts, by enumeration of the votes of each round."""
    shares = {"a": 0.0, "b": 0.0, None: 0.0}
    for (text, _), p in exact.law().items():
        letters = [c for c in text if c in "ab"]
        shares[letters[-1] if letters else None] += p
    size, most, level = 2, 6, 0.8
    alive = {(0, 0): 1.0}
    stops = {}
    for n in range(size, most + 1, size):
        after = {}
        for (a, b), p in alive.items():
            for votes in product(shares, repeat=size):
                new = a + votes.count("a"), b + votes.count("b")
                after[new] = after.get(new, 0.0) + p * np.prod([shares[v] for v in votes])
        over = lambda v, n=n: n == most or leads(np.array([x for x in v if x], float)) >= level
        stops[n] = sum(p for v, p in after.items() if over(v))
        alive = {v: p for v, p in after.items() if not over(v)}
    assert min(stops.values()) > 0.05
    strategy = scaling.AdaptiveConsistency(size=size, level=level)
    written = [len(o.texts) for o in exact.run(strategy, most, prompts=150)]
    assert_law(np.array([written.count(n) for n in stops]), np.array(list(stops.values())))


def test_neyman_allocation_is_the_best_in_whole_numbers():
    rng = np.random.default_rng(3)
    for _ in range(20):
        spreads, least, more = rng.random(3) * [1, 1, 4], rng.integers(1, 4, 3), 7
        counts = neyman(spreads, least, more, np.zeros(3))
        assert counts.sum() == least.sum() + more
        loss = lambda n, s=spreads: (s**2 / np.array(n)).sum()
        ways = [w for w in product(range(more + 1), repeat=3) if sum(w) == more]
        assert loss(counts) == pytest.approx(min(loss(least + np.array(w)) for w in ways))
    turned = neyman(spreads[::-1], least[::-1], more, np.zeros(3))
    assert turned.tolist() == counts[::-1].tolist()
    assert neyman(np.zeros(3), np.array([2, 2, 2]), 6, np.zeros(3)).tolist() == [4, 4, 4]


@pytest.mark.slow
def test_the_pool_is_spent_where_answers_differ():
    strategy = scaling.AdaptiveAllocation(pilot=3)
    outcomes = exact.run(strategy, 6, prompts=6, key=0)
    sizes = np.array([len(o.texts) for o in outcomes])
    assert sizes.sum() == 6 * 6
    agree = np.array([len({*o.candidates.answers[:3]}) == 1 for o in outcomes])
    assert (sizes[agree] == 3).all()
    assert agree.any()
    assert (sizes[~agree] > 6).all()
    with pytest.raises(InvalidArgument, match="strategy='beam-search'"):
        scaling.AdaptiveAllocation(strategy="beam-search")
