"""Rewards made worse, and rewards with a time limit."""

import threading

import numpy as np
import pytest
from scipy import stats
from scipy.special import logit

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument, RewardError
from smcgen.scaling.evaluation import Degraded
from smcgen.scaling.evaluation.timed import Timed, within
from smcgen.text.prompts import Prompt
from smcgen.text.rewards import FunctionReward
from smcgen.text.texts import Texts
from tests.text.toy import ToyTokenizer

MANY = 3000
halves = FunctionReward(lambda texts: [0.5] * len(texts), probability=True)
lengths = FunctionReward(lambda texts: [float(len(text)) for text in texts])


def population(ids, prompt=(0,)) -> Texts:
    ids = np.asarray(ids)
    m = len(ids)
    ends = np.full((m, 1), ids.shape[1])
    return Texts([Prompt(tuple(prompt), "a")], m, ids, np.full(m, ids.shape[1]), ends,
                 np.ones(m, np.int8), ToyTokenizer())  # fmt: skip


def different(m=MANY) -> np.ndarray:
    """m texts of seven characters, no two of them equal."""
    return np.stack(np.unravel_index(np.arange(m), (4,) * 7), 1)


def scores(reward, texts, rows=None) -> np.ndarray:
    session = reward.open_reward(texts.prompts, texts.n, texts.tokenizer, Meter())
    return session.score(texts, np.arange(len(texts)) if rows is None else np.asarray(rows))


def test_without_errors_it_is_the_reward():
    texts = population(different(50))
    for reward in (halves, lengths):
        assert (scores(Degraded(reward), texts) == scores(reward, texts)).all()
        assert Degraded(reward).probability == reward.probability


def test_noise_is_gaussian_in_log_odds():
    found = scores(Degraded(halves, noise=1.5, bias=-0.7), population(different()))
    assert stats.kstest((logit(found) + 0.7) / 1.5, "norm").pvalue > 1e-6
    assert (
        stats.kstest((logit(found) + 0.6) / 1.5, "norm").pvalue < 1e-2
    )  # it would notice a wrong bias


def test_other_scores_are_shifted_as_they_are():
    found = scores(Degraded(lengths, noise=0.25, bias=2.0), population(different()))
    assert stats.kstest((found - 9) / 0.25, "norm").pvalue > 1e-6


def test_false_positives_come_as_often_as_they_should():
    found = scores(Degraded(halves, false_positives=0.2), population(different()))
    assert set(np.unique(found)) == {0.5, 0.99}
    assert abs((found == 0.99).mean() - 0.2) < 4.9 * (0.2 * 0.8 / MANY) ** 0.5
    above = scores(Degraded(lengths, false_positives=1.0, high=3.0), population(different(9)))
    assert (above == 7).all()  # what is above `high` stays there


def test_errors_belong_to_the_content():
    """Whatever the rows, their order, how many there are, or how they are batched."""
    worse = Degraded(halves, noise=1.0, false_positives=0.1)
    ids = different(40)
    expected = scores(worse, population(ids))
    order = np.random.default_rng(0).permutation(40)
    assert (scores(worse, population(ids[order])) == expected[order]).all()
    assert (scores(worse, population(ids), [3, 17]) == expected[[3, 17]]).all()
    assert (scores(worse, population(np.repeat(ids[:2], 3, 0))) == np.repeat(expected[:2], 3)).all()
    elsewhere = scores(worse, population(ids, prompt=(1,)))
    assert abs(np.corrcoef(elsewhere, expected)[0, 1]) < 0.7
    assert not (scores(Degraded(halves, noise=1.0, seed=1), population(ids)) == expected).any()


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"noise": -1.0}, "noise"),
        ({"bias": float("nan")}, "bias"),
        ({"false_positives": 1.5}, "false_positives"),
        ({"high": 2.0}, "high"),
    ],
)
def test_knobs_out_of_range_are_refused(options, name):
    with pytest.raises(InvalidArgument, match=f"{name}="):
        Degraded(halves, **options)


def test_only_a_single_reward_can_be_made_worse():
    with pytest.raises(InvalidArgument, match="single reward"):
        Degraded(halves * lengths, noise=1.0)
    with pytest.raises(InvalidArgument, match="high=None"):
        Degraded(lengths, false_positives=0.1)


def test_a_reward_that_hangs_fails_in_time():
    never = threading.Event()
    hangs = Timed(FunctionReward(lambda texts: [never.wait() for _ in texts]), 0.05)
    session = hangs.open_reward([Prompt((0,), "a")], 1, ToyTokenizer(), Meter())
    with pytest.raises(RewardError, match=r"within 0\.05 s"):
        session.score(population(different(1)), np.array([0]))
    session.close()
    never.set()
    assert scores(Timed(halves, 60.0), population(different(2))).tolist() == [0.5, 0.5]
    with pytest.raises(InvalidArgument, match="reward_timeout"):
        Timed(halves, 0.0)


def test_what_a_call_raises_is_raised():
    with pytest.raises(KeyError):
        within(60.0, lambda: {}["nothing"])
