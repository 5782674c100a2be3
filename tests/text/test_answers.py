"""Reading answers, and the posterior over them."""

import math

import numpy as np
import pytest

from smcgen.errors import InvalidArgument
from smcgen.text.answers import AnswerPosterior, as_extractor


@pytest.mark.parametrize(
    ("how", "text", "answer"),
    [
        ("number", "so 1,234 and then 7.", "7"),
        ("number", "the cost is $1,234.50", "1234.50"),
        ("number", "minus -3", "-3"),
        ("number", "none", None),
        ("boxed", r"thus \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        ("boxed", r"\boxed{1} no, \boxed{2}", "2"),
        ("boxed", r"\boxed{unfinished", None),
        ("boxed", "nothing", None),
        ("boxed", r"so $\boxed 5$.", "5"),
        ("boxed", r"\boxed {\{1,2\}}", r"\{1,2\}"),
        ("boxed", r"$\fbox{A}$", "A"),
        ("number", "x = 5-3", "3"),
        ("number", "the roots are 1,2", "2"),
        ("number", "\u22127 or about .5", ".5"),
        ("number", "it is \u22127", "-7"),
        ("json:answer", 'so {"answer": 1} or {"answer": "two"}', "two"),
        ("json:a.b", '{"a": {"b": 2.5}} {unfinished', "2.5"),
        ("json:answer", "{} none", None),
        ("line", "a\n b \n\n", "b"),
        ("line", "", None),
        (r"A:(\d+)", "A:1\nA:22", "22"),
        (r"A:(\d+)", "B:1", None),
        (lambda text: text[::-1], "ab", "ba"),
    ],
)
def test_extractors(how, text, answer):
    assert as_extractor(how)(text) == answer


@pytest.mark.parametrize("how", ["(", "no group", r"(a)(b)"])
def test_bad_extractors(how):
    with pytest.raises(InvalidArgument, match="answer"):
        as_extractor(how)


def test_posterior():
    posterior = AnswerPosterior(["1", "2", None, "1"], [0.1, 0.5, 0.1, 0.3])
    assert list(posterior) == ["2", "1"]
    assert posterior.best == "2"
    assert posterior["1"] == pytest.approx(0.4)
    assert posterior.none == pytest.approx(0.1)
    assert "'2': 0.500" in repr(posterior)


def test_posterior_without_answers():
    posterior = AnswerPosterior([None, None], [0.5, 0.5])
    assert posterior.best is None
    assert len(posterior) == 0
    assert posterior.none == 1.0


def test_standard_errors():
    """Of n equal independent texts sqrt(p (1 - p) / n); families count as one."""
    posterior = AnswerPosterior(["1", "1", "2", None], [1.0] * 4)
    assert posterior.stderr("1") == pytest.approx(math.sqrt(0.25 / 4))
    assert posterior.stderr(None) == pytest.approx(math.sqrt(0.25 * 0.75 / 4))
    assert posterior.entropy == pytest.approx(1.5 * math.log(2))
    copies = AnswerPosterior(["1", "1", "2", "2"], [1.0] * 4, [0, 0, 1, 1])
    assert copies.stderr("1") == pytest.approx(math.sqrt(0.25 / 2))
    assert math.isnan(AnswerPosterior(["1", "2"], [1.0, 1.0], [3, 3]).stderr("1"))


def test_standard_error_is_the_spread_over_runs():
    """Weighted texts: over many samples its square averages to the variance of the estimate, to leading order."""
    rng = np.random.default_rng(0)
    estimates, variances = [], []
    for _ in range(400):
        hits = rng.random(200) < 0.3
        weights = np.where(hits, rng.exponential(1.0, 200), rng.exponential(0.5, 200))
        posterior = AnswerPosterior(["1" if h else "2" for h in hits], weights)
        estimates.append(posterior["1"])
        variances.append(posterior.stderr("1") ** 2)
    assert np.mean(variances) == pytest.approx(np.var(estimates), rel=0.35)  # sd of a variance: 7 %
