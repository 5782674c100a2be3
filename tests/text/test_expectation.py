"""Expectations of functions of texts, problem by problem, against sums written out."""

import numpy as np
import pytest

from smcgen.core.smc import smc
from smcgen.errors import InvalidArgument
from smcgen.text.model import TextModel
from smcgen.text.rewards import FunctionReward
from tests.text.toy import ToyEngine


def count_a(texts):
    return np.array([texts.text(row).count("a") for row in range(len(texts))], float)


@pytest.fixture(scope="module")
def run():
    reward = FunctionReward(lambda texts: [0.8 * t.count("a") for t in texts])
    model = TextModel(ToyEngine(), ["a", "b", "ab"], reward, step_rule=1, max_tokens=4)
    return smc(model, 2, 5, ess_threshold=0.0)


def test_each_problem_is_weighted_by_its_own_particles(run):
    texts, w = run.particles, np.exp(np.asarray(run.log_weights, np.float64))
    expected = [sum(w[b, i] * texts.text(5 * b + i).count("a") for i in range(5)) for b in range(3)]
    assert len({*expected}) == 3
    np.testing.assert_allclose(run.expectation(count_a), expected, rtol=1e-5)
    lengths = run.expectation(lambda texts: {"length": texts.lengths, "one": 0 * texts.lengths + 1})
    np.testing.assert_allclose(
        lengths["length"], (w * texts.lengths.reshape(3, 5)).sum(1), rtol=1e-5
    )
    np.testing.assert_allclose(lengths["one"], 1.0, rtol=1e-6)


def test_what_is_not_one_value_per_particle_is_refused(run):
    with pytest.raises(InvalidArgument, match=r"of shape \(3, 5, ...\) or \(15, ...\)"):
        run.expectation(lambda texts: np.zeros(5))
    with pytest.raises(InvalidArgument, match="fn='Texts'"):
        run.expectation()


@pytest.mark.parametrize("prompt", ["a", ["a", "b.", "ab"]], ids=["one prompt", "three"])
def test_trajectories_are_the_texts_step_by_step(prompt):
    reward = FunctionReward(lambda texts: [0.9 * t.count("a") for t in texts])
    model = TextModel(ToyEngine(max_tokens=4), prompt, reward, 1, max_tokens=4)
    run = smc(model, 0, 6, keep="particles", ess_threshold=1.0)
    paths = run.trajectories()
    for row in range(len(run.particles)):
        at = row if isinstance(prompt, str) else divmod(row, 6)
        written = [int(i) for record in paths for i in np.ravel(record.tokens[at]) if i >= 0]
        assert written == run.particles.tokens(row)
