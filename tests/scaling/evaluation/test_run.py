"""The runner: nothing lost, nothing twice, whatever happens."""

import json
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from smcgen.core.status import Status
from smcgen.errors import InvalidArgument, RewardError, UnknownName
from smcgen.scaling.evaluation import EvaluationError, Results, evaluate
from smcgen.scaling.evaluation.journal import Journal
from smcgen.scaling.evaluation.tasks import Problem, Task
from tests.scaling.evaluation import stub
from tests.scaling.evaluation.stub import WRITING, Stub
from tests.text.toy import ToyEngine


def run(out=None, before=None, problems=6, **options):
    usual = {"task": stub.task(problems), "strategies": {"stub": Stub()}, "writing": WRITING}
    options = usual | {"budgets": (1, 3), "seeds": (0, 1)} | options
    stub.hook = before
    try:
        return evaluate(
            options.pop("task"), options.pop("strategies"), ToyEngine(), out=out, **options
        )
    finally:
        stub.hook = None


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def said(results) -> dict:
    """What does not depend on the clock."""
    return {r.key: (r.answer, r.right, tuple(r.texts), tuple(r.weights)) for r in results}


def test_every_problem_is_recorded_once(tmp_path):
    results = run(tmp_path)
    assert len(results) == 6 * 2 * 2
    rows = lines(tmp_path)
    keys = {(r["problem"], r["strategy"], r["budget"], r["seed"]) for r in rows}
    assert len(rows) == len(keys) == 24
    row = rows[0]
    assert row["right"] == (row["answer"] == row["expected"])
    assert row["correct"] == [a == row["expected"] for a in row["answers"]]
    assert row["cost"]["tokens_generated"] == 1
    assert row["scores"] == [None]
    assert said(Results.load(tmp_path)) == said(results)


def test_results_do_not_depend_on_order_or_batch():
    task = stub.task()
    expected = said(run())
    assert said(run(batch=1)) == expected
    assert said(run(task=replace(task, problems=list(task)[::-1]), batch=4)) == expected
    some = said(run(task=list(task)[2:4]))
    assert some == {k: v for k, v in expected.items() if k.problem in ("p2", "p3")}
    assert len({v[2] for v in expected.values()}) > 5  # and they do depend on problem and seed


@pytest.mark.parametrize("stop", [1, 2, 5])
def test_an_interrupt_keeps_what_is_done_and_the_next_run_goes_on(tmp_path, stop):
    calls = []

    def interrupt(prompts):
        calls.append(prompts)
        if len(calls) == stop + 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, interrupt, batch=2)
    assert len(lines(tmp_path)) == 2 * stop
    results = run(tmp_path, interrupt, batch=3)
    assert sum(map(len, calls)) == 24 + 2  # the interrupted pair is all that was run twice
    assert len(lines(tmp_path)) == 24
    assert said(results) == said(run())


@pytest.mark.slow
def test_a_kill_loses_no_finished_problem(tmp_path):
    """A process that is killed in the middle of its third engine call."""
    code = f"""
import os, signal
from tests.scaling.evaluation import test_run
calls = []
def die(prompts):
    calls.append(prompts)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
test_run.run({str(tmp_path)!r}, die, batch=2)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False)
    assert done.returncode == -9
    assert len(lines(tmp_path)) == 4
    asked = []
    results = run(tmp_path, asked.extend, batch=2)
    assert len(asked) == 20
    assert said(results) == said(run())


@pytest.mark.parametrize("cut", [1, 40])
def test_a_torn_last_line_is_dropped_and_run_again(tmp_path, cut):
    expected = said(run(tmp_path))
    path = tmp_path / "records.jsonl"
    path.write_bytes(path.read_bytes()[:-cut])
    asked = []
    assert said(run(tmp_path, asked.extend)) == expected
    assert len(asked) == 1
    assert len(lines(tmp_path)) == 24


def test_a_broken_line_in_the_middle_is_named(tmp_path):
    run(tmp_path)
    path = tmp_path / "records.jsonl"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([rows[0], "{broken", *rows[2:]]) + "\n")
    with pytest.raises(EvaluationError, match="line 2"):
        run(tmp_path)


def test_a_full_disk_loses_nothing_that_was_written(tmp_path):
    """The file may not grow beyond a limit that falls in the middle of a record."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    run(tmp_path / "whole")
    size = (tmp_path / "whole" / "records.jsonl").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size // 2, hard))
    try:
        with pytest.raises(EvaluationError, match="make room and run the same command again"):
            run(tmp_path / "full", batch=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    kept = lines(tmp_path / "full")  # each of them is whole
    assert 0 < len(kept) < 24
    asked = []
    assert said(run(tmp_path / "full", asked.extend)) == said(run())
    assert len(asked) == 24 - len(kept)


def test_more_may_be_asked_of_the_same_folder(tmp_path):
    asked = []
    run(tmp_path, budgets=1, seeds=(0,), problems=2)
    results = run(tmp_path, asked.extend)
    assert len(asked) == 24 - 2
    assert said(results) == said(run())
    assert (
        len(run(tmp_path, budgets=1, seeds=(0,), problems=2)) == 2
    )  # and less: only that is shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"writing": replace(WRITING, temperature=0.5)}, "writing="),
        ({"strategies": {"stub": Stub(needy=False, selection="sample")}}, r"strategies\.stub="),
        ({"task": Task("t", [Problem("p0", "other", "1")])}, "problem 'p0' has another prompt"),
    ],
)
def test_records_of_other_settings_are_not_mixed_in(tmp_path, options, message):
    run(tmp_path)
    before = (tmp_path / "records.jsonl").read_bytes()
    with pytest.raises(EvaluationError, match=message):
        run(tmp_path, **options)
    assert (tmp_path / "records.jsonl").read_bytes() == before


def test_two_runs_do_not_write_into_one_folder(tmp_path):
    with Journal(tmp_path, {}), pytest.raises(EvaluationError, match="another run is writing"):
        run(tmp_path)
    run(tmp_path)


def test_a_problem_that_fails_leaves_the_others_unharmed(tmp_path):
    def fail(prompts):
        if "prompt 3" in prompts:
            raise RewardError("the verifier is away")

    results = run(tmp_path, fail, budgets=3, seeds=(0,))
    failed = [r for r in results if r.error]
    assert [(r.problem, r.status, r.right, r.attempts) for r in failed] == [
        ("p3", "FAILED", False, 2)
    ]
    assert failed[0].error == "RewardError: the verifier is away"
    sound = said(run(budgets=3, seeds=(0,)))
    assert said([r for r in results if not r.error]) == {
        k: v for k, v in sound.items() if k.problem != "p3"
    }
    # the next run tries again, and only that
    asked = []
    assert said(run(tmp_path, asked.extend, budgets=3, seeds=(0,))) == sound
    assert asked == ["prompt 3"]


def test_a_problem_that_fails_once_is_tried_again():
    seen = []

    def fail_twice(prompts):
        seen.append(prompts)
        if "prompt 1" in prompts and sum("prompt 1" in p for p in seen) <= 4:
            raise OSError("broken pipe")

    results = run(before=fail_twice, budgets=1, seeds=(0,))  # 6, 3, 1+2, then alone
    (record,) = (r for r in results if r.problem == "p1")
    assert (record.status, record.error) == ("OK", None)
    assert record.attempts == 2


def test_a_run_that_ends_badly_is_a_failure(monkeypatch):
    """A reward that is not a number: the run ends with a status, not with an exception."""
    make = stub.outcome
    bad = lambda p, n, k: make(p, n, k, Status.NON_FINITE_POTENTIAL if p[-1] == "2" else Status.OK)
    monkeypatch.setattr(stub, "outcome", bad)
    failed = [r for r in run(budgets=1, seeds=(0,)) if r.error]
    assert [r.problem for r in failed] == ["p2"]
    assert "NON_FINITE_POTENTIAL" in failed[0].error
    assert not failed[0].right


def test_when_everything_fails_it_stops():
    def fail(prompts):
        raise ConnectionError("no route to host")

    with pytest.raises(EvaluationError, match="4 problems failed one after another.*no route"):
        run(before=fail, patience=4)


def test_texts_may_be_left_out(tmp_path):
    run(tmp_path, keep_texts=False)
    row = lines(tmp_path)[-1]
    assert row["texts"] is None
    assert row["text"] == row["answer"]
    assert len(row["answers"]) == len(row["correct"]) == 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"budgets": ()}, InvalidArgument, "budgets"),
        ({"budgets": (1, 1)}, InvalidArgument, "each once"),
        ({"seeds": (0, 0)}, InvalidArgument, "seeds"),
        ({"task": Task("t", [])}, InvalidArgument, "at least one problem"),
        ({"task": ["1 + 1"]}, InvalidArgument, "a list of Problems"),
        ({"batch": 0}, InvalidArgument, "batch"),
        ({"strategies": "worst-of-n"}, UnknownName, "worst-of-n"),
        ({"strategies": {"a": Stub(needy=True)}}, InvalidArgument, "a reward for strategy 'a'"),
        ({"writing": replace(WRITING, answer=None)}, InvalidArgument, "writing.answer"),
    ],
)
def test_arguments_that_cannot_be_are_refused_at_once(options, error, message, unchecked):
    with pytest.raises(error, match=message):
        run(**options)


def test_a_folder_that_cannot_be_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(EvaluationError, match="file"):
        run(tmp_path / "file")


def test_the_live_table_shows_how_it_stands(capsys):
    from rich.console import Console

    from smcgen.scaling.evaluation.live import LiveTable
    from smcgen.scaling.evaluation.units import plan_of

    plan = plan_of(stub.task(), {"stub": Stub()}, [], (1, 3), (0, 1))
    results = run(budgets=1, seeds=(0,))
    with LiveTable(plan, results, shown=False) as live:
        Console(width=80).print(live._render())
    shown = capsys.readouterr().out
    right = sum(r.right for r in results)
    assert f"{right / 6:.3f} (6)" in shown
    assert "6/24" in shown


def test_what_is_done_is_not_asked_again(tmp_path):
    run(tmp_path)
    asked = []
    run(tmp_path, asked.extend)
    assert asked == []
