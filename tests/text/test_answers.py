"""Reading answers, and the posterior over them."""

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
