"""Grammar constraints: only texts of a formal language have weight.

    target(x)  proportional to  p(x) * [x in L]

Use `Regex` for short forms, `Choice` for a fixed set of answers, `JSONSchema` for structured data
and `Grammar` for anything else that a context-free grammar can say. The whole completion must
belong to
the language: it may end exactly where it does, and a text that is cut off inside it has weight zero
unless `incomplete="allow"`. Masks are exact at the level of bytes, whatever the tokenizer, by
xgrammar (Dong et al. 2024, arXiv:2411.15100). Masking alone samples from another law (Lew et al.
2023, arXiv:2306.03081); here the mask's normaliser goes into the particle's weight, so the target
is the one above.
"""

import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from smcgen.errors import InvalidArgument
from smcgen.text.factors._mask import Incomplete, MaskFactor, MaskSession
from smcgen.text.factors._regex import literal, regex_to_ebnf
from smcgen.text.factors._xgrammar import GrammarAutomaton, build, import_xgrammar
from smcgen.text.factors.base import Setting


@dataclass(frozen=True)
class _Constraint(MaskFactor):
    """What all grammar constraints share. Raises `MissingExtra` without xgrammar."""

    incomplete: Incomplete = field(default="zero", kw_only=True)

    def __post_init__(self) -> None:
        self._check_incomplete()
        self._grammar()  # what is wrong with it should be said here, not in the first step

    @abstractmethod
    def _grammar(self) -> Any:
        """The constraint as an xgrammar grammar."""

    @cached_property
    def _alone(self) -> Any:
        """Compiled without a tokenizer, to read strings."""
        xgrammar = import_xgrammar()
        compiler = xgrammar.GrammarCompiler(xgrammar.TokenizerInfo([]), cache_enabled=False)
        return compiler.compile_grammar(self._grammar())

    def accepts(self, text: str) -> bool:
        """Whether the whole text belongs to the language."""
        matcher = import_xgrammar().GrammarMatcher(self._alone, terminate_without_stop_token=True)
        return matcher.accept_string(text) and matcher.is_completed()

    def open_factor(self, setting: Setting) -> MaskSession:
        automaton = GrammarAutomaton(self, self._grammar, setting)
        return MaskSession(automaton, setting, self.incomplete)


@dataclass(frozen=True)
class Regex(_Constraint):
    r"""Completions that a regular expression matches as a whole: `Regex(r"-?\d+")`.

    The meaning is that of `re.fullmatch(pattern, text, re.ASCII)`.

    Args:
        pattern: Python syntax; look-around, back-references and flags other than `s` and `x` are
            refused.
        incomplete: weight of a text that is cut off inside a match.

    Raises:
        InvalidArgument: a pattern that is wrong or not regular, with the reason.
    """

    pattern: str

    def _grammar(self) -> Any:
        ebnf = regex_to_ebnf(self.pattern)
        return build(lambda: import_xgrammar().Grammar.from_ebnf(ebnf), "pattern", self.pattern)


@dataclass(frozen=True)
class Choice(_Constraint):
    """Completions that are one of some strings: `Choice(["yes", "no"])`."""

    options: Sequence[str]

    def __post_init__(self) -> None:
        options = () if isinstance(self.options, str) else tuple(self.options)
        if not options or not all(isinstance(o, str) for o in options):
            raise InvalidArgument("options", self.options, "a list of at least one string")
        object.__setattr__(self, "options", options)
        super().__post_init__()

    def _grammar(self) -> Any:
        ebnf = "root ::= " + " | ".join(literal(o) for o in self.options)
        return build(lambda: import_xgrammar().Grammar.from_ebnf(ebnf), "options", self.options)


@dataclass(frozen=True)
class Grammar(_Constraint):
    """Completions of a context-free grammar in GBNF notation, whose start symbol is `root`.

    `Grammar('root ::= "(" root ")" | ""')`. Notation: xgrammar.mlc.ai, "EBNF grammars".
    """

    ebnf: str

    def _grammar(self) -> Any:
        return build(lambda: import_xgrammar().Grammar.from_ebnf(self.ebnf), "ebnf", self.ebnf)


@dataclass(frozen=True)
class JSONSchema(_Constraint):
    """Completions that are JSON of a schema.

    Args:
        schema: a JSON schema as a mapping or a string, or a pydantic model.
        whitespace: allow any whitespace between JSON's tokens, not only one canonical form.
        incomplete: weight of a text that is cut off inside the JSON.

    What a grammar cannot count or compare (`uniqueItems`, `not`, `multipleOf`) is not enforced: add
    a `FunctionReward` for it.

    Raises:
        InvalidArgument: not a JSON schema, with the reason.
    """

    schema: Any
    whitespace: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "schema", _schema_text(self.schema))
        super().__post_init__()

    def _grammar(self) -> Any:
        make = import_xgrammar().Grammar.from_json_schema
        return build(
            lambda: make(self.schema, any_whitespace=self.whitespace), "schema", self.schema
        )


def _schema_text(schema: Any) -> str:
    """A schema as JSON text: the frozen, comparable form of all that is accepted."""
    from_pydantic = getattr(schema, "model_json_schema", None)
    if isinstance(schema, type) and callable(from_pydantic):
        return json.dumps(from_pydantic())
    if isinstance(schema, Mapping):
        return json.dumps(schema)
    if not isinstance(schema, str):
        raise InvalidArgument("schema", schema, "a mapping, JSON text, or a pydantic model class")
    try:
        return json.dumps(json.loads(schema))
    except json.JSONDecodeError as error:
        raise InvalidArgument("schema", schema, f"JSON ({error})") from error
