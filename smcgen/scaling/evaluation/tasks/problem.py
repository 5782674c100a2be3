"""A problem with a known answer, and a task: problems to be solved under the same conditions."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from smcgen.errors import InvalidArgument
from smcgen.scaling.evaluation.tasks.templates import Template, as_template
from smcgen.text.prompts import PromptLike


@dataclass(frozen=True)
class Problem:
    """A prompt and the answer that counts as right.

    Attributes:
        id: what names the problem, in records and in its random numbers.
        prompt: text, chat messages or token ids.
        answer: the right answer, as text.
        metadata: whatever else its file says of it.
    """

    id: str
    prompt: PromptLike
    answer: str
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def digest(self) -> str:
        """What makes a record of another problem with the same id a record of another problem."""
        content = json.dumps([self.prompt, self.answer], default=list, ensure_ascii=False)
        return short_hash(content)


@dataclass(frozen=True)
class BadLine:
    """A line of a task file that is no problem."""

    line: int
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}: {self.reason}"


@dataclass(frozen=True, repr=False)
class Task:
    """Problems, and the lines of their file that were not.

    Attributes:
        name: of the file, for tables.
        problems: in the order of the file.
        bad: lines that could not be read, with what was expected.
    """

    name: str
    problems: Sequence[Problem]
    bad: Sequence[BadLine] = ()

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for problem in self.problems:
            if problem.id in seen:
                raise InvalidArgument("problems", problem.id, "a different id for every problem")
            seen.add(problem.id)

    def where(self, **metadata: Any) -> "Task":
        """The problems whose metadata has these values: `task.where(level=5)`."""
        keep = lambda p: all(p.metadata.get(k) == v for k, v in metadata.items())
        return replace(self, problems=[p for p in self.problems if keep(p)])

    def first(self, count: int) -> "Task":
        """The first `count` problems."""
        return replace(self, problems=self.problems[:count])

    def templated(self, template: Template | str | Sequence[Mapping[str, str]]) -> "Task":
        """The problems as chat messages or text of a template; see `templates`."""
        make = as_template(template)
        return replace(self, problems=[replace(p, prompt=make(p.prompt)) for p in self.problems])

    def __len__(self) -> int:
        return len(self.problems)

    def __iter__(self) -> Iterator[Problem]:
        return iter(self.problems)

    def __repr__(self) -> str:
        bad = f", {len(self.bad)} bad lines" if self.bad else ""
        return f"Task({self.name!r}, {len(self.problems)} problems{bad})"


def short_hash(content: str) -> str:
    """Sixteen hexadecimal digits that name a text."""
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]
