"""What a step is made of: one delimiter or several, a number of tokens, a function."""

import pytest

from smcgen.errors import InvalidArgument
from smcgen.text.steps import Step, as_step


def test_a_bare_string_is_one_delimiter(unchecked):
    assert Step(delimiters="ab") == Step(delimiters=("ab",)) == as_step("ab")
    assert Step("ab").delimiters == ("ab",)
    assert Step(delimiters=["ab", "c"]) == Step(delimiters=("ab", "c")) == as_step(["ab", "c"])
    assert hash(Step("ab")) == hash(as_step("ab"))


@pytest.mark.parametrize("delimiters", ["", ("a", ""), ("a", 1), [None]])
def test_delimiters_are_strings_that_are_not_empty(delimiters, unchecked):
    with pytest.raises(InvalidArgument, match="non-empty strings"):
        Step(delimiters=delimiters)


def test_a_step_ends_somewhere(unchecked):
    with pytest.raises(InvalidArgument, match="a delimiter, a number of tokens, or a function"):
        Step()
    with pytest.raises(InvalidArgument, match="tokens=0"):
        Step(tokens=0)
    with pytest.raises(InvalidArgument, match="on='words'"):
        Step("a", on="words")
