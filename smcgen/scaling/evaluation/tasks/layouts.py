"""How files of problems are laid out: which field is the problem, which the answer.

Known by their field names, whatever the case: MATH500 (`problem`, `answer`, `unique_id`), MATH (`problem`, and an
answer in the `solution`'s box), AIME (`problem` or `question`, an integer `answer`, `id`), GSM8K (`question`, an
`answer` that ends in `#### 42`), and plain (`prompt`, `answer`, `id`).
"""

import re
from collections.abc import Mapping
from typing import Any

from smcgen.scaling.evaluation.tasks.problem import Problem, short_hash
from smcgen.text.answers import boxed

PROMPTS = ("prompt", "problem", "question")
ANSWERS = ("answer", "expected_answer", "final_answer")
IDS = ("id", "unique_id", "problem_id")
_GSM8K = re.compile(r"####\s*(.+?)\s*$")


class NotAProblem(ValueError):
    """What was expected of a row and is not there."""


def problem_of(row: Any) -> Problem:
    """A row of a file as a problem.

    Without an id, a hash of its prompt is its id, so that it does not depend on the order of the lines.

    Raises:
        NotAProblem: with what was expected.
    """
    if not isinstance(row, Mapping):
        raise NotAProblem(f"expected a JSON object, not {type(row).__name__}")
    fields = {str(key).lower(): key for key in row}
    found = lambda names: next((fields[n] for n in names if n in fields), None)
    prompt_key, id_key = found(PROMPTS), found(IDS)
    if prompt_key is None:
        raise NotAProblem(f"expected a problem in one of the fields {_listed(PROMPTS)}")
    prompt = row[prompt_key]
    if not isinstance(prompt, str | list) or not prompt:
        raise NotAProblem(f"expected text or chat messages in {prompt_key!r}, not {prompt!r}")
    if isinstance(prompt, list) and not all(_is_message(m) for m in prompt):
        raise NotAProblem(f"expected messages with a role and a content in {prompt_key!r}")
    answer_key, solution_key = found(ANSWERS), fields.get("solution")
    answer = _answer(row.get(answer_key), row.get(solution_key))
    used = {prompt_key, id_key, answer_key}
    named = row[id_key] if id_key is not None else None
    return Problem(
        id=str(named) if named not in (None, "") else short_hash(repr(prompt)),
        prompt=prompt,
        answer=answer,
        metadata={k: v for k, v in row.items() if k not in used},
    )


def _answer(given: Any, solution: Any) -> str:
    if isinstance(given, bool) or not isinstance(given, str | int | float | None):
        raise NotAProblem(f"expected an answer that is text or a number, not {given!r}")
    text = "" if given is None else str(given).strip()
    marked = _GSM8K.search(text)
    if marked:
        return marked.group(1).replace(",", "")
    if not text and isinstance(solution, str):
        text = boxed(solution) or ""
    if not text:
        raise NotAProblem(
            f"no answer: expected one in {_listed(ANSWERS)} or in the box of a 'solution'"
        )
    return text


def _is_message(message: Any) -> bool:
    return isinstance(message, Mapping) and all(
        isinstance(message.get(key), str) for key in ("role", "content")
    )


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(map(repr, names))
