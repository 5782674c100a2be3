"""Independent texts against closed forms, by enumeration."""

from itertools import product

import numpy as np
import pytest

from smcgen import scaling
from smcgen.core.smc import smc
from smcgen.text.model import TextModel
from smcgen.text.potentials.tilt import Tilt
from smcgen.text.texts import Finish
from tests.laws import assert_law
from tests.scaling import exact


@pytest.mark.slow
def test_best_of_n_follows_its_law():
    """P(chosen = x) = p(x) / p(class) (F^n - F_below^n) for classes of equal (ended, psi)."""
    law = exact.law()
    rank = {x: (x[1], exact.psi(x[0])) for x in law}
    expected = {}
    for x, p in law.items():
        upto = sum(q for y, q in law.items() if rank[y] <= rank[x])
        below = sum(q for y, q in law.items() if rank[y] < rank[x])
        expected[x] = p / (upto - below) * (upto**exact.N - below**exact.N)
    assert sum(expected.values()) == pytest.approx(1.0)
    outcomes = exact.run(scaling.BestOfN())
    chosen = [(o.text, bool(o.finish[o.chosen] == Finish.EOS)) for o in outcomes]
    cells = list(expected)
    assert_law(np.array([chosen.count(c) for c in cells]), np.array([expected[c] for c in cells]))


@pytest.mark.slow
def test_majority_follows_its_law():
    """P(answer) by enumeration of all votes; ties go to the best text among the tied answers' texts."""
    share = {"a": 0.0, "b": 0.0, None: 0.0}
    best = {}
    for (text, ended), p in exact.law().items():
        letters = [c for c in text if c in "ab"]
        share[letters[-1] if letters else None] += p
        best.setdefault(letters[-1] if letters else None, []).append((text, ended))
    decided = {"a": 0.0, "b": 0.0, None: 0.0, "tie": 0.0}
    for votes in product(share, repeat=exact.N):
        a, b = votes.count("a"), votes.count("b")
        winner = "tie" if a == b and a else "a" if a > b else "b" if b else None
        decided[winner] += float(np.prod([share[v] for v in votes]))
    outcomes = exact.run(scaling.Majority())
    counts = dict.fromkeys(decided, 0)
    for o in outcomes:
        found = [*o.answers.values(), 0.0, 0.0]
        counts["tie" if len(o.answers) == 2 and found[0] == found[1] else o.answer] += 1
    assert_law(np.array([counts[k] for k in decided]), np.array(list(decided.values())))


def test_best_of_n_is_smc_without_resampling():
    outcomes = exact.run(scaling.BestOfN(), prompts=3)
    model = TextModel(
        *(exact.ENGINE, ["a"] * 3, Tilt(exact.REWARD, twist="none"), 1, exact.TOKENS, exact.TOKENS)
    )
    run = smc(model, 5, exact.N, ess_threshold=0.0)
    assert [t for o in outcomes for t in o.texts] == [run.particles.text(i) for i in range(12)]
    np.testing.assert_allclose(
        np.concatenate([o.weights for o in outcomes]), np.exp(run.log_weights).ravel(), rtol=1e-5
    )


def test_one_particle_is_a_plain_sample():
    ways = [
        scaling.ParticleFilter(),
        scaling.Sample(),
        scaling.BestOfN(),
        scaling.PuriParticleFilter(),
    ]
    texts = [[o.text for o in exact.run(way, 1, prompts=20)] for way in ways]
    assert texts[1:] == texts[:1] * 3
