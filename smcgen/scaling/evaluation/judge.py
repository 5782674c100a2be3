"""Whether an answer is the right one."""

from fractions import Fraction

_DRESS = ("$", "\\$", "\\!", "\\,", "\\left", "\\right", "\\%", "%")


def same_answer(answer: str, expected: str) -> bool:
    """Equal as text but for dress (dollar signs, spaces, a last full stop), or equal as numbers.

    Numbers may have thousands separators, and be whole, decimal or `a/b`. Nothing else is worked out: `1/2` is
    `0.5`, but `x+1` is not `1+x`; pass another judge where that matters.
    """
    answer, expected = _plain(answer), _plain(expected)
    if answer == expected:
        return True
    one, other = _number(answer), _number(expected)
    return one is not None and one == other


def _plain(answer: str) -> str:
    for dress in _DRESS:
        answer = answer.replace(dress, "")
    answer = answer.replace("\\dfrac", "\\frac").replace("\\tfrac", "\\frac")
    return "".join(answer.split()).rstrip(".")


def _number(answer: str) -> Fraction | None:
    try:
        return Fraction(answer.replace(",", ""))
    except (ValueError, ZeroDivisionError):
        return None
