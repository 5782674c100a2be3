r"""Regular expressions as grammars, with the meaning that Python's `re` gives them.

Patterns are parsed by Python's own parser, so a bad one fails with Python's message, and are
written out as EBNF. The language is that of `re.fullmatch(pattern, text, re.ASCII)`: `\d`, `\w` and
`\s` are ASCII, `.` is anything but a newline. What no regular grammar can say (look-around,
back-references, anchors in the middle) is refused, never ignored.
"""

import re
from re import _constants as op  # type: ignore[attr-defined]
from re import _parser  # type: ignore[attr-defined]
from typing import Any

from smcgen.errors import InvalidArgument

Ranges = list[tuple[int, int]]
# NUL and the surrogates are left out: no tokenizer writes them, and grammars cannot name them.
_ALL: Ranges = [(1, 0xD7FF), (0xE000, 0x10FFFF)]
_DIGIT: Ranges = [(48, 57)]
_WORD: Ranges = [(48, 57), (65, 90), (95, 95), (97, 122)]
_SPACE: Ranges = [(9, 13), (32, 32)]
_CATEGORIES = {
    op.CATEGORY_DIGIT: (_DIGIT, False),
    op.CATEGORY_NOT_DIGIT: (_DIGIT, True),
    op.CATEGORY_WORD: (_WORD, False),
    op.CATEGORY_NOT_WORD: (_WORD, True),
    op.CATEGORY_SPACE: (_SPACE, False),
    op.CATEGORY_NOT_SPACE: (_SPACE, True),
}
_BEGIN = (op.AT_BEGINNING, op.AT_BEGINNING_STRING)
_END = (op.AT_END, op.AT_END_STRING)
_REFUSED = {
    op.ASSERT: "look-around",
    op.ASSERT_NOT: "look-around",
    op.GROUPREF: "back-references",
    op.GROUPREF_EXISTS: "conditional groups",
    op.POSSESSIVE_REPEAT: "possessive quantifiers",
    op.ATOMIC_GROUP: "atomic groups",
}
_FLAGS = re.UNICODE | re.ASCII | re.VERBOSE | re.DOTALL


def regex_to_ebnf(pattern: str) -> str:
    """The grammar of the texts that the whole pattern matches.

    Raises:
        InvalidArgument: not a regular expression, or one that a grammar cannot express.
    """
    if not isinstance(pattern, str):
        raise InvalidArgument("pattern", pattern, "a string")
    try:
        tree = _parser.parse(pattern, re.ASCII)
    except (re.error, OverflowError) as error:
        raise InvalidArgument("pattern", pattern, f"a regular expression ({error})") from error
    if tree.state.flags & ~_FLAGS:
        raise InvalidArgument("pattern", pattern, "a pattern without the flags i, m and L")
    return "root ::= " + _Writer(pattern, bool(tree.state.flags & re.DOTALL)).sequence(
        tree, True, True
    )


def literal(text: str) -> str:
    """A text as an EBNF literal."""
    return '"' + "".join(_char(ord(c)) for c in text) + '"'


class _Writer:
    """Writes the tree of one pattern as EBNF."""

    def __init__(self, pattern: str, dot_all: bool):
        self._pattern, self._dot_all = pattern, dot_all

    def sequence(self, items: Any, starts: bool, ends: bool) -> str:
        """A sequence; `starts` and `ends` say whether it touches the ends of the text."""
        items = list(items)
        parts = []
        for k, (kind, value) in enumerate(items):
            starts_here = starts and all(i[0] is op.AT for i in items[:k])
            ends_here = ends and all(i[0] is op.AT for i in items[k + 1 :])
            parts.append(self._item(kind, value, starts_here, ends_here))
        return " ".join(p for p in parts if p) or '""'

    def _item(self, kind: Any, value: Any, starts: bool, ends: bool) -> str:
        if kind is op.LITERAL:
            return '"' + _char(value) + '"'
        if kind is op.NOT_LITERAL:
            return _write_class(_complement([(value, value)]))
        if kind is op.ANY:
            return _write_class(_ALL if self._dot_all else _complement([(10, 10)]))
        if kind is op.IN:
            return self._class(value)
        if kind is op.BRANCH:
            branches = [self.sequence(branch, starts, ends) for branch in value[1]]
            return "(" + " | ".join(branches) + ")"
        if kind is op.SUBPATTERN:
            if value[1] or value[2]:
                raise self._refuse("flags inside a pattern")
            return "(" + self.sequence(value[3], starts, ends) + ")"
        if kind in (op.MAX_REPEAT, op.MIN_REPEAT):
            low, high, body = value
            bounds = f"{{{low},}}" if high is op.MAXREPEAT else f"{{{low},{high}}}"
            return f"({self.sequence(body, False, False)}){bounds}"
        if kind is op.AT and ((starts and value in _BEGIN) or (ends and value in _END)):
            return ""
        raise self._refuse(_REFUSED.get(kind, "anchors except around the whole pattern"))

    def _class(self, members: list[tuple[Any, Any]]) -> str:
        negate = bool(members) and members[0][0] is op.NEGATE
        ranges: Ranges = []
        for kind, value in members[1:] if negate else members:
            if kind is op.LITERAL:
                ranges.append((value, value))
            elif kind is op.RANGE:
                ranges.append(value)
            else:
                base, outside = _CATEGORIES[value]
                ranges += _complement(base) if outside else base
        ranges = _complement(ranges) if negate else ranges
        if not ranges:
            raise self._refuse("an empty character class")
        return _write_class(ranges)

    def _refuse(self, what: str) -> InvalidArgument:
        return InvalidArgument("pattern", self._pattern, f"a pattern without {what}")


def _complement(ranges: Ranges) -> Ranges:
    out: Ranges = []
    for low, high in _ALL:
        for a, b in sorted(ranges):
            if b < low or a > high:
                continue
            if a > low:
                out.append((low, a - 1))
            low = max(low, b + 1)
        if low <= high:
            out.append((low, high))
    return out


def _write_class(ranges: Ranges) -> str:
    return "[" + "".join(f"{_char(a)}-{_char(b)}" for a, b in ranges) + "]"


def _char(code: int) -> str:
    """A character in a form that needs no other escaping, in literals and classes alike."""
    if 48 <= code <= 57 or 65 <= code <= 90 or 97 <= code <= 122:
        return chr(code)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
