"""A finished text is weighted once and never again, however long its rivals run."""

import numpy as np
import pytest

from smcgen.core.smc import smc
from smcgen.text.model import TextModel
from smcgen.text.potentials.tilt import Tilt
from smcgen.text.rewards import FunctionReward
from tests.laws import assert_unbiased
from tests.text.toy import EOS, VOCAB, ToyEngine

RUNS, N = 1500, 4


class Race(ToyEngine):
    """Half of the texts are "a"; the others write "b" `rounds` times, one a step."""

    rounds = 2

    @property
    def logits(self):
        table = np.full((sum(EOS**k for k in range(self.rounds + 2)), VOCAB), -1e9)
        table[:, EOS] = 0.0
        table[0, [0, 1]] = 1.0, 1.0
        table[0, EOS] = -1e9
        node = 0
        for _ in range(self.rounds):
            node = node * EOS + 2
            table[node] = -1e9
            table[node, 1] = 0.0
        table[node] = -1e9
        table[node, EOS] = 0.0
        return table


def scores(texts):
    """.8 for the short text, .7 for each step of the long one."""
    return [0.8 if t.startswith("a") else 0.7 for t in texts]


def logits(texts):
    return [np.log(s / (1 - s)) for s in scores(texts)]


def share_of_short(potential, rounds, **options):
    """Z-hat and Z-hat * W(short) over many runs, one token a step."""
    engine = type("Race", (Race,), {"rounds": rounds})()
    model = TextModel(engine, ["a"] * RUNS, potential, 1, 12, 12)
    run = smc(model, 3, N, **options)
    short = (run.particles.ids[:, 0] == 0).reshape(RUNS, N)
    z = np.exp(np.asarray(run.log_evidence, np.float64))
    return z, z * (np.exp(np.asarray(run.log_weights, np.float64)) * short).sum(1)


def assert_share(potential, rounds, expected, **options):
    z, z_short = share_of_short(potential, rounds, **options)
    # E[Z-hat W(short)] = Z pi(short): a ratio of means of unbiased estimates, so test the difference
    assert_unbiased(z_short - expected * z, 0.0, f"share at {rounds} rounds")


@pytest.mark.parametrize(
    "rounds", [pytest.param(2, marks=pytest.mark.slow), 4, pytest.param(8, marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("threshold", [0.0, 0.6, 1.0])
def test_telescoped_values_do_not_depend_on_the_rival(rounds, threshold):
    reward = FunctionReward(scores, probability=True)
    odds = (0.8 / 0.2) / (0.7 / 0.3)
    assert round(odds / (1 + odds), 3) == 0.632
    assert_share(Tilt(reward, scale="logit"), rounds, odds / (1 + odds), ess_threshold=threshold)


@pytest.mark.parametrize(
    ("rounds", "share"), [(2, 0.424), (4, 0.119), pytest.param(8, 0.005, marks=pytest.mark.slow)]
)
def test_absolute_scores_stop_at_the_end_of_a_text(rounds, share):
    """Accumulated scores are another target, but an ended text's own weight stays what it was."""
    tilt = Tilt(FunctionReward(logits), twist="sum", outcome="sum")
    # the end token is a step of its own here, so the long text is asked rounds + 1 times, the short twice
    odds = 4.0**2 / (7 / 3) ** (rounds + 1)
    assert_share(tilt, rounds, odds / (1 + odds), ess_threshold=0.5)
    by_step = 4.0 / (7 / 3) ** rounds
    assert round(by_step / (1 + by_step), 3) == share
    last_adds_nothing = lambda h: (
        np.nansum(h, 1) - np.nanmax(np.where(np.isnan(h), np.nan, h[:, :1]), 1)
    )
    per_step = Tilt(FunctionReward(logits), twist="sum", outcome=last_adds_nothing)
    assert_share(per_step, rounds, by_step / (1 + by_step), ess_threshold=0.5)


def test_one_step_is_not_counted_twice():
    """Scores .9 and .5, one step: .900, where resampling and selecting by the same weights gives .987."""

    def nine(texts):
        return [0.9 if t.startswith("a") else 0.5 for t in texts]

    tilt = Tilt(FunctionReward(nine, probability=True), scale="logit")
    for threshold in (0.0, 1.0):
        assert_share(tilt, 1, 0.9, ess_threshold=threshold)


def test_ended_texts_are_neither_written_nor_scored_again():
    asked = []

    def reward(texts):
        asked.extend(texts)
        return [0.0 for _ in texts]

    model = TextModel(
        type("Race", (Race,), {"rounds": 8})(), "a", FunctionReward(reward), 1, 12, 12
    )
    run = smc(model, 0, 16, ess_threshold=0.0)
    texts = run.particles
    assert run.cost.tokens_generated == texts.lengths.sum()
    assert (
        asked.count("a") <= 2
    )  # once when written, once when ended; then it is cached or absorbed
    assert run.cost.reward_calls == len(asked)
