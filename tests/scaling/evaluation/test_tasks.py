"""Files of problems, as people have them."""

import json

import pytest

from smcgen.errors import InvalidArgument, SmcgenError
from smcgen.scaling.evaluation.tasks import Problem, Task, load_task
from smcgen.shipped import shipped

LAYOUTS = {
    "math500": (
        {
            "problem": "What is $1+1$?",
            "solution": r"It is $\boxed{2}$.",
            "answer": "2",
            "subject": "Algebra",
            "level": 1,
            "unique_id": "test/algebra/1.json",
        },
        Problem("test/algebra/1.json", "What is $1+1$?", "2"),
    ),
    "math": (
        {"problem": "Halve $x$.", "level": "Level 5", "solution": r"So $\boxed{\frac{x}{2}}$."},
        Problem("", "Halve $x$.", r"\frac{x}{2}"),
    ),
    "aime": (
        {"ID": "2024-II-4", "Problem": "Let ...", "Solution": "...", "Answer": 33},
        Problem("2024-II-4", "Let ...", "33"),
    ),
    "aime24": (
        {
            "id": 60,
            "problem": "Every morning ...",
            "solution": "...",
            "answer": "204",
            "year": 2024,
        },
        Problem("60", "Every morning ...", "204"),
    ),
    "gsm8k": (
        {"question": "How many?", "answer": "6*200=<<6*200=1200>>1200\n#### 1,200"},
        Problem("", "How many?", "1200"),
    ),
    "chat": (
        {"id": "a", "prompt": [{"role": "user", "content": "1+1?"}], "answer": 2},
        Problem("a", [{"role": "user", "content": "1+1?"}], "2"),
    ),
}


def write(path, rows):
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_told_by_their_fields(tmp_path, layout):
    row, expected = LAYOUTS[layout]
    (problem,) = load_task(write(tmp_path / "p.jsonl", [row])).problems
    assert (problem.prompt, problem.answer) == (expected.prompt, expected.answer)
    assert problem.id == expected.id or (not expected.id and len(problem.id) == 16)


def test_a_json_list_and_a_byte_order_mark(tmp_path):
    rows = [LAYOUTS["aime"][0], {"question": "?", "answer": "1"}]
    (tmp_path / "p.json").write_text(json.dumps(rows), encoding="utf-8-sig")
    assert [p.answer for p in load_task(tmp_path / "p.json")] == ["33", "1"]


def test_bad_lines_are_told_and_the_others_run(tmp_path):
    rows = [
        {"id": 1, "prompt": "a", "answer": "1"},
        "not json",
        {"id": 2, "text": "b", "answer": "1"},
        "",
        {"id": 3, "prompt": "c"},
        "[1, 2]",
        {"id": 1, "prompt": "d", "answer": "2"},
        {"id": 4, "prompt": "e", "answer": ["1"]},
        {"id": 5, "prompt": "f", "answer": 0},
        {"id": 6, "prompt": [1, 2], "answer": 0},
    ]
    task = load_task(write(tmp_path / "p.jsonl", rows))
    assert [p.id for p in task] == ["1", "5"]
    said = {bad.line: bad.reason for bad in task.bad}
    assert sorted(said) == [2, 3, 5, 6, 7, 8, 10]
    for line, expected in {
        2: "expected a JSON object",
        3: "'prompt', 'problem', 'question'",
        5: "no answer: expected one in 'answer'",
        6: "expected a JSON object, not list",
        7: "id '1' is that of line 1",
        8: "text or a number",
        10: "role and a content",
    }.items():
        assert expected in said[line], said[line]
    assert "7 bad lines" in repr(task)


def test_bytes_that_are_not_text_cost_their_line_only(tmp_path):
    good = json.dumps({"prompt": "é", "answer": "1"}, ensure_ascii=False).encode()
    (tmp_path / "p.jsonl").write_bytes(b'{"prompt": "\xff"}\n' + good + b"\r\n")
    task = load_task(tmp_path / "p.jsonl")
    assert [p.prompt for p in task] == ["é"]
    assert "UTF-8" in task.bad[0].reason


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", "", "it is empty"),
        ("p.jsonl", "nothing\n", "line 1: expected a JSON object"),
        ("p.json", "{}", "expected a JSON list"),
        ("p.json", "[", "expected a JSON object"),
    ],
)
def test_a_file_without_problems_is_an_error(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(SmcgenError, match=message):
        load_task(tmp_path / name)


def test_other_files_are_refused(tmp_path):
    (tmp_path / "p.parquet").write_text("PAR1")
    for path in (tmp_path / "p.parquet", tmp_path / "missing.jsonl"):
        with pytest.raises(InvalidArgument, match="task="):
            load_task(path)


def test_ids_do_not_depend_on_the_order_of_lines(tmp_path):
    rows = [{"question": q, "answer": "1"} for q in "abc"]
    ids = {p.prompt: p.id for p in load_task(write(tmp_path / "p.jsonl", rows))}
    again = {p.prompt: p.id for p in load_task(write(tmp_path / "q.jsonl", rows[::-1]))}
    assert ids == again
    assert len(set(ids.values())) == 3


def test_a_problem_with_another_answer_has_another_digest():
    assert Problem("a", "p", "1").digest != Problem("a", "p", "2").digest
    assert Problem("a", "p", "1").digest == Problem("b", "p", "1", {"level": 1}).digest


def test_templates_put_the_problem_into_messages():
    task = Task("t", [Problem("a", r"Find \boxed{x} {y}.", "1")])
    (problem,) = task.templated("boxed")
    assert [m["role"] for m in problem.prompt] == ["system", "user"]
    assert problem.prompt[1]["content"] == r"Find \boxed{x} {y}."
    assert task.templated("Q: {problem}\nA:").problems[0].prompt == "Q: Find \\boxed{x} {y}.\nA:"
    assert task.templated(str.upper).problems[0].prompt == r"FIND \BOXED{X} {Y}."
    with pytest.raises(InvalidArgument, match="'boxed', 'steps', 'chat'"):
        task.templated("no place")
    with pytest.raises(InvalidArgument, match="chat messages take no template"):
        task.templated("boxed").templated("boxed")


def test_two_problems_of_one_id_are_refused():
    with pytest.raises(InvalidArgument, match="a different id"):
        Task("t", [Problem("a", "p", "1"), Problem("a", "q", "1")])


def test_the_shipped_problems_load():
    task = load_task(shipped("data/tape.jsonl"))
    assert len(task) == 700
    assert not task.bad
    hard = task.where(ops=8).first(3)
    assert [p.id for p in hard] == ["tape-8-0000", "tape-8-0001", "tape-8-0002"]
