"""Stopping redundant texts: votes keep their means, whatever is taken for alike."""

import numpy as np
import pytest

from smcgen import scaling
from smcgen.errors import InvalidArgument
from smcgen.scaling.similarity import NgramOverlap, Pairwise, SameStep, clusters, survivors
from smcgen.text.texts import Finish
from tests.laws import assert_unbiased
from tests.scaling import exact


@pytest.mark.slow
def test_evidence_and_answers_are_unbiased():
    """E[Z-hat] = Z and E[Z-hat W(answer)] = Z pi(answer), with an arbitrary similarity that stops most texts."""
    strategy = scaling.PruneRedundant(
        strategy="weighted-best-of-n", similarity=SameStep(), threshold=1.0, start=1
    )
    outcomes = exact.run(strategy, prompts=300)
    z = sum(p * exact.psi(t) for (t, _), p in exact.law().items())
    estimates = np.exp([o.runs[0].log_evidence for o in outcomes])
    assert_unbiased(estimates / z, 1.0)
    with_a = sum(p * exact.psi(t) for (t, _), p in exact.law().items() if "ab" in t)
    share = [sum(w for w, t in zip(o.weights, o.texts, strict=True) if "ab" in t) for o in outcomes]
    assert_unbiased(estimates * np.array(share) / with_a, 1.0)
    stopped = np.array([(o.finish == Finish.DEAD).sum() for o in outcomes])
    assert stopped.mean() > 0.5
    plain = exact.run(scaling.WeightedBestOfN(), prompts=300)
    spent = lambda found: sum(o.cost.tokens_generated for o in found)
    assert spent(outcomes) < 0.9 * spent(plain)


@pytest.mark.slow
def test_votes_are_those_of_the_clusters():
    strategy = scaling.PruneRedundant(similarity=lambda texts: np.ones((len(texts),) * 2), start=1)
    for o in exact.run(strategy, prompts=6):
        stopped = o.finish == Finish.DEAD
        running = stopped | (o.candidates.lengths > 1)  # after the first step
        np.testing.assert_allclose(o.weights[~running], 1 / 4, rtol=1e-5)
        kept = running & ~stopped
        assert kept.sum() == running.any()
        np.testing.assert_allclose(
            o.weights[kept], running.sum() / 4 if running.any() else [], rtol=1e-5
        )


@pytest.mark.parametrize("kept", [1, 2, 3])
def test_the_votes_of_each_text_keep_their_mean(kept):
    votes = np.array([1.0, 3.0, 1.0, 0.5, 2.5])
    grid = [survivors(votes, kept, (i + 0.5) / 4000) for i in range(4000)]
    np.testing.assert_allclose(np.mean(grid, 0), votes, rtol=2e-3)
    np.testing.assert_allclose(np.sum(grid, 1), votes.sum())
    assert all((v > 0).sum() <= kept for v in grid)
    assert survivors(votes, 5, 0.3).tolist() == votes.tolist()


def test_similarities():
    texts = [
        ["We add.\n", "4 + 5 = 9\n"],
        ["We  ADD.\n", "4 + 5 = 9 \n"],
        ["We add.\n", "It is 8\n"],
    ]
    overlap = NgramOverlap(2)(texts)
    assert overlap[0, 1] == 1.0
    # we add, add ., . 4, 4 +, + 5, 5 =, = 9 against we add, add ., . it, it is, is 8
    assert overlap[0, 2] == pytest.approx(2 / 10)
    assert SameStep()(texts).tolist() == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    length = Pairwise(lambda a, b: -abs(len(a) - len(b)))
    chain = [["a"], ["aa"], ["aaa"], ["aaaaaa"]]
    assert clusters(length, chain, -1.0).tolist() == [0, 0, 0, 1]
    with pytest.raises(InvalidArgument, match="similarity='an array of shape"):
        clusters(lambda texts: np.ones(3), chain, 0.5)
