"""`smcgen eval` on the shipped models."""

import json

import pytest
from typer.testing import CliRunner

from smcgen.cli import app
from smcgen.scaling.evaluation import Results
from smcgen.shipped import shipped

MODEL = ["--model", shipped("tape-policy")]
WRITING = ["--answer", r"A:(\d+)", "--max-steps", 4, "--max-tokens", 32, "--where", "ops=2"]


def run(*arguments):
    return CliRunner().invoke(app, ["eval", *map(str, arguments)])


@pytest.fixture
def task(tmp_path):
    lines = shipped("data/tape.jsonl").read_text().splitlines()
    lines = [line for line in lines if json.loads(line)["ops"] == 2][:3]
    path = tmp_path / "tape.jsonl"
    path.write_text("\n".join([lines[0], "no problem", *lines[1:]]) + "\n")
    return path


@pytest.mark.slow
def test_one_command_gives_table_figure_and_records(tmp_path, task):
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    command = [
        *("--task", task, *MODEL, *WRITING, "--out", out, "--batch", 2),
        *("--reward", shipped("tape-prm-good"), "--degrade", "noise=2"),
        *("--strategy", "particle-filter", "--budget", 2, "--seeds", 0, "--limit", 2),
        *("--strategy-args", '{"particle-filter": {"ess_threshold": 1.0}}'),
    ]
    done = run(*command)
    assert done.exit_code == 0, done.output + done.stderr
    assert f"{task}, line 2: expected a JSON object" in done.stderr
    assert "particle-filter" in done.output
    rows = json.loads((out / "summary.json").read_text())["rows"]
    names = ["tape-prm-good", "tape-prm-good noise=2"]
    filters = "particle-filter[ess_threshold=1.0]"
    assert [(r["reward"], r["strategy"]) for r in rows] == [(name, filters) for name in names]
    assert (out / "accuracy.png").stat().st_size > 10_000
    assert len(Results.load(out)) == 4


def test_ctrl_c_is_one_line(tmp_path, task, monkeypatch):
    import smcgen.scaling.evaluation.run as module

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.Solver, "open", interrupt)
    done = run("--task", task, *MODEL, "--strategy", "sample", "--out", tmp_path / "out")
    assert done.exit_code == 130
    assert "interrupted: the same command goes on" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--strategy", "worst-of-n"], "worst-of-n"),
        (["--strategy", "best-of-n"], "a reward for strategy 'best-of-n'"),
        (["--strategy", "sample", "--budget", "x"], "budget='x'"),
        (["--strategy", "sample", "--budget", "0"], "budget=0"),
        (["--strategy", "sample", "--budget", "tokens=9+seconds=-1"], "seconds=-1.0"),
        (["--strategy", "sample", "--seeds", "a"], "seeds='a'"),
        (["--strategy", "sample", "--degrade", "noise"], "degrade='noise'"),
        (["--strategy", "sample", "--where", "ops"], "where='ops'"),
        (["--strategy", "sample", "--where", "ops=99"], "at least one problem"),
        (["--strategy", "sample", "--strategy-args", "{"], "strategy_args='{'"),
        (["--strategy", "sample", "--strategy-args", '{"sample": {"n": 1}}'], "'n'"),
        (["--strategy", "sample", "--strategy-args", '{"other": {}}'], "strategy_args='other'"),
        (["--strategy", "sample", "--template", "none"], "template='none'"),
        (["--strategy", "sample", "--answer", "("], "answer='('"),
        (["--strategy", "sample", "--cost", "money"], "cost='money'"),
    ],
)
def test_errors_are_one_line(tmp_path, task, arguments, message):
    done = run("--task", task, *MODEL, "--out", tmp_path / "out", *arguments)
    assert done.exit_code == 2, done.output
    assert message in done.stderr
    assert "Traceback" not in done.stderr
