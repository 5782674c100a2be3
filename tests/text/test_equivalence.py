"""Equivalent answers share a vote."""

import threading

import pytest

from smcgen.errors import UnknownName
from smcgen.text.equivalence import as_equivalence, merged, number_of

SAME = {
    "exact": [("1", "1")],
    "string": [("Yes.", " yes"), ("a  b", "A b")],
    "numeric": [
        ("1,000", "1000.0"),
        ("1e3", "1000"),
        ("1/2", "0.5"),
        ("50%", ".5"),
        ("$3", "3"),
        ("no", "No."),
        (r"\frac{3}{4}", ".75"),
        (r"-\dfrac12", "-0.5"),
        (r"10,\!000", "10000"),
        (r"\$5", "5"),
    ],
}
OTHER = {
    "exact": [("1", "1.0")],
    "string": [("1", "1.0"), ("a b", "ab")],
    "numeric": [
        ("1/3", "0.333"),
        ("1/0", "2/0"),
        ("12", "1 2"),
        ("3", "-3"),
        ("x", "3"),
        ("1,2", "12"),
        (r"3\frac12", "15.5"),
    ],
}


@pytest.mark.parametrize("name", SAME)
def test_equivalences(name):
    equal = as_equivalence(name)
    for a, b in SAME[name]:
        assert equal(a, b), (a, b)
        assert equal(b, a), (b, a)
    for a, b in OTHER[name]:
        assert not equal(a, b), (a, b)


def test_mathematics_in_any_thread():
    pytest.importorskip("math_verify")
    found = []

    def compare():
        equal = as_equivalence("math")
        found.append(
            [equal(r"\frac{1}{2}", "0.5"), equal(r"2\sqrt{3}", r"\sqrt{12}"), equal("x+1", "1+x")]
        )
        found.append([equal(r"\frac{1}{2}", "0.6"), equal(r"\sqrt{3}", "2"), equal("{", "}")])

    thread = threading.Thread(target=compare)
    thread.start()
    thread.join()
    assert found == [[True] * 3, [False] * 3]


def test_merged():
    equal = as_equivalence("numeric")
    assert merged(["2", None, "2.0", "3", "4/2"], equal) == ["2", None, "2", "3", "2"]
    assert number_of("two") is None


def test_unknown():
    with pytest.raises(UnknownName, match="equivalent='vague'"):
        as_equivalence("vague")
