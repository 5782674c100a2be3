"""Reading problems from a file that the user has: JSON lines, or a JSON list."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from smcgen.errors import InvalidArgument, SmcgenError
from smcgen.scaling.evaluation.tasks.layouts import NotAProblem, problem_of
from smcgen.scaling.evaluation.tasks.problem import BadLine, Problem, Task

_SHOWN = 5


def load_task(path: str | Path) -> Task:
    """The problems of a file of JSON lines (`.jsonl`) or of one JSON list (`.json`).

    A line that is not a problem does not stop the others: it is in `task.bad`, with its number and what was
    expected. See `layouts` for what is understood.

    Raises:
        InvalidArgument: there is no such file, or it is of another kind.
        SmcgenError: not one of its lines is a problem.
    """
    path = Path(path)
    if not path.is_file():
        raise InvalidArgument("task", str(path), "a file of problems")
    if path.suffix not in (".jsonl", ".json", ".txt"):
        raise InvalidArgument("task", str(path), "a .jsonl file (a problem a line) or a .json list")
    problems: list[Problem] = []
    bad: list[BadLine] = []
    places: dict[str, int] = {}
    for number, row in _rows(path):
        try:
            if isinstance(row, NotAProblem):
                raise row
            problem = problem_of(row)
            if problem.id in places:
                raise NotAProblem(f"id {problem.id!r} is that of line {places[problem.id]}")
        except NotAProblem as error:
            bad.append(BadLine(number, str(error)))
            continue
        places[problem.id] = number
        problems.append(problem)
    if not problems:
        said = "; ".join(map(str, bad[:_SHOWN])) or "it is empty"
        raise SmcgenError(f"{path}: no problem in it ({said})")
    return Task(path.stem, problems, bad)


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """(line number, row); what cannot be read is a `NotAProblem`."""
    data = path.read_bytes()
    if path.suffix == ".json":
        row = _parsed(data)
        if not isinstance(row, list):
            raise SmcgenError(f"{path}: expected a JSON list of problems ({_kind(row)})")
        yield from enumerate(row, 1)
        return
    for number, line in enumerate(data.split(b"\n"), 1):
        if line.strip():
            yield number, _parsed(line)


def _parsed(data: bytes) -> Any:
    try:
        return json.loads(data.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return NotAProblem(f"expected UTF-8 text ({error.reason} at byte {error.start})")
    except (ValueError, RecursionError) as error:
        return NotAProblem(f"expected a JSON object ({error})")


def _kind(row: Any) -> str:
    return str(row) if isinstance(row, NotAProblem) else f"it is a {type(row).__name__}"


def as_task(task: Any) -> Task:
    """A task: one as it is, a list of problems, or the path of a file of them.

    Raises:
        InvalidArgument: it is none of these.
    """
    if isinstance(task, Task):
        return task
    if isinstance(task, str | Path):
        return load_task(task)
    if isinstance(task, Sequence) and all(isinstance(p, Problem) for p in task):
        return Task("problems", task)
    raise InvalidArgument("task", task, "a Task, a list of Problems, or the path of a file of them")
