"""How good a reward is, read off the records, and the figure of what it is worth."""

from itertools import product

import numpy as np
import pytest

from smcgen.errors import InvalidArgument
from smcgen.scaling.evaluation import Record, Results, quality_figure, reward_quality
from smcgen.scaling.evaluation.statistics import auc


def test_auc_counts_pairs():
    rng = np.random.default_rng(0)
    scores, right = rng.integers(0, 5, 40), rng.random(40) < 0.4
    pairs = [(x > y) + (x == y) / 2 for x, y in product(scores[right], scores[~right])]
    assert auc(scores, right) == pytest.approx(np.mean(pairs))
    assert np.isnan(auc(scores, np.ones(40)))


def record(problem, reward, strategy, scores, correct, right):
    of = {"scores": scores, "correct": correct, "right": right}
    return Record(problem, "", reward, strategy, "4", 0, "1", **of)


RESULTS = Results.of(
    [
        record("a", "r", "best-of-n", [0.9, 0.1, 0.2, None], [True, False, False, True], True),
        record("b", "r", "best-of-n", [0.1, 0.2, 0.3, 0.4], [False] * 4, False),
        record("c", "r", "best-of-n", [0.1, 0.2, 0.3, 0.4], [True, True, False, True], True),
        record("a", "r worse", "best-of-n", [0.1, 0.9], [True, False], False),
        record("b", "r worse", "best-of-n", [0.1, 0.9], [False, False], False),
        record("c", "r worse", "best-of-n", [0.1, 0.9], [False, True], True),
        *(record(p, None, "majority", [None], [p == "a"], p == "a") for p in "abc"),
    ]
)


def test_quality_is_within_problems():
    """Scores of different problems are not compared, and problems of one kind of texts say nothing."""
    assert reward_quality(RESULTS) == {
        "r": pytest.approx((1 + 1 / 3) / 2),
        "r worse": pytest.approx((0 + 1) / 2),
    }


def test_the_figure_shows_every_strategy_under_every_reward(tmp_path):
    pytest.importorskip("matplotlib")
    figure = quality_figure(RESULTS, tmp_path / "rewards.png")
    (axis,) = figure.axes
    lines = {line.get_label(): line for line in axis.get_lines()}
    assert len(lines["best-of-n"].get_xdata()) == 2
    gains = lines["majority"].get_ydata()
    assert gains[0] == gains[1]  # whatever the reward
    labels = [label.get_text() for label in axis.get_xticklabels()]
    assert labels == ["as it is\nAUC 0.67", "worse\nAUC 0.50"]
    assert (tmp_path / "rewards.png").stat().st_size > 5000
    with pytest.raises(InvalidArgument, match="budget='9'"):
        quality_figure(RESULTS, budget=9)
