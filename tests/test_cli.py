"""The command line."""

import importlib
import json

import pytest
from typer.testing import CliRunner

from smcgen._version import __version__
from smcgen.cli import app
from smcgen.shipped import shipped

MODEL = ["--model", str(shipped("tape-policy"))]


def run(*arguments, **options):
    return CliRunner().invoke(app, [str(a) for a in arguments], **options)


def test_version():
    assert run("--version").output.strip() == __version__


def test_steer_one_prompt():
    done = run(
        "steer",
        *MODEL,
        "--prompt",
        r"Q:12+34\n",
        "-n",
        4,
        "--reward",
        shipped("tape-prm-good"),
        "--trace",
    )
    assert done.exit_code == 0, done.output
    row = json.loads(done.stdout.splitlines()[0])
    assert row["status"] == "OK"
    assert len(row["texts"]) == 4
    assert sum(row["weights"]) == pytest.approx(1)
    assert "step 1" in done.stderr


@pytest.mark.slow
def test_jsonl_in_jsonl_out_whatever_the_batch(tmp_path):
    prompts = tmp_path / "in.jsonl"
    prompts.write_text(
        "".join(json.dumps({"id": i, "prompt": f"Q:{i}2+34\n"}) + "\n" for i in (1, 2, 3))
    )
    rows = []
    for batch in (1, 3):
        out = tmp_path / f"{batch}.jsonl"
        done = run("steer", *MODEL, "--input", prompts, "--output", out, "-n", 3, "--batch", batch)
        assert done.exit_code == 0, done.output
        rows.append([json.loads(line) for line in out.read_text().splitlines()])
    assert [r["id"] for r in rows[0]] == [1, 2, 3]
    assert [r["texts"] for r in rows[0]] == [r["texts"] for r in rows[1]]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"prompt": "Q:1+1\\n"}\nnot json\n', "line 2: not JSON"),
        ('{"question": "?"}\n', 'line 1: expected an object with a "prompt"'),
        ('{"prompt": "Q:1+1\\n"}\n\n{"prompt": ""}\n', "line 3: prompt='' is not allowed"),
        (json.dumps({"prompt": "1" * 600}), "line 1: prompt='601 tokens'"),
    ],
)
def test_malformed_input_names_the_line(tmp_path, lines, message):
    path = tmp_path / "in.jsonl"
    path.write_text(lines)
    done = run("steer", *MODEL, "--input", path)
    assert done.exit_code == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--prompt", "Q:1\n", "--model", "no/such/model"], "no/such/model"),
        ([*MODEL], "either --prompt or --input"),
        ([*MODEL, "--prompt", ""], "prompt"),
        ([*MODEL, "--prompt", "Q:1\n", "-n", "0"], "n_particles=0"),
        ([*MODEL, "--input", "missing.jsonl"], "missing.jsonl"),
    ],
)
def test_errors_are_one_line(arguments, message):
    done = run("steer", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_demo_writes_table_figure_and_trace(tmp_path):
    pytest.importorskip("matplotlib")
    done = run("demo", "text", "--problems", 4, "--n", "1,4", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    rows = json.loads((tmp_path / "results.json").read_text())
    methods = {r["method"] for r in rows}
    assert methods == {"greedy", "majority", "best-of-N", "weighted best-of-N", "particle filter"}
    assert all(0 <= r["interval"][0] <= r["accuracy"] <= r["interval"][1] <= 1 for r in rows)
    assert (tmp_path / "accuracy.png").stat().st_size > 10_000
    assert "step 1" in (tmp_path / "trace.txt").read_text()
    assert run("demo", "--n", "x").exit_code == 2


@pytest.mark.slow
def test_demo_draws_digits(tmp_path):
    pytest.importorskip("matplotlib")
    done = run("demo", "digits", "--repeats", 2, "--n", "4", "--out", tmp_path)
    assert done.exit_code == 0, done.output
    rows = {r["method"]: r for r in json.loads((tmp_path / "digits.json").read_text())}
    assert set(rows) == {"plain", "best-of-n", "FK, drawn", "FK, best"}
    assert rows["plain"]["nfe"] * 4 == rows["best-of-n"]["nfe"] == rows["FK, best"]["nfe"]
    assert rows["plain"]["judged_right"] < 0.5 < rows["FK, best"]["judged_right"]
    assert (tmp_path / "digits.png").stat().st_size > 10_000


def strict(text):
    """JSON as other languages read it: no NaN, no Infinity."""

    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


@pytest.mark.slow
def test_numbers_that_json_lacks_are_null(tmp_path, monkeypatch):
    module = importlib.import_module("smcgen.text.steer")  # the package has a function of that name
    steer = module.steer
    forbid = lambda texts: [float("-inf") for _ in texts]
    monkeypatch.setattr(module, "steer", lambda *a, **kw: steer(*a, **kw | {"reward": forbid}))
    path = tmp_path / "in.jsonl"
    path.write_text('{"prompt": "Q:1+1\\n", "known": NaN}\n')
    done = run("steer", *MODEL, "--input", path, "-n", 2)
    assert done.exit_code == 0, done.output
    row = strict(done.stdout)
    assert row["status"] == "ALL_WEIGHTS_ZERO"
    assert row["log_evidence"] is None
    assert row["known"] is None


@pytest.mark.parametrize("inside", [True, False])
def test_ctrl_c_keeps_what_is_done(tmp_path, monkeypatch, inside):
    """Inside a run, which is returned as it is, and between two."""
    module = importlib.import_module("smcgen.text.steer")
    steer, calls = module.steer, []

    def interrupted(*arguments, **options):
        calls.append(arguments)
        if len(calls) < 3:
            return steer(*arguments, **options)
        if not inside:
            raise KeyboardInterrupt
        told = lambda progress: (_ for _ in ()).throw(KeyboardInterrupt)
        return steer(*arguments, **options, callback=told)

    monkeypatch.setattr(module, "steer", interrupted)
    prompts, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    prompts.write_text(
        "".join(json.dumps({"id": i, "prompt": f"Q:{i}2+34\n"}) + "\n" for i in range(1, 6))
    )
    done = run("steer", *MODEL, "--input", prompts, "--output", out, "-n", 2, "--batch", 1)
    assert done.exit_code == 130
    assert done.stderr.strip() == "smcgen: interrupted: 2 of 5 prompts are done"
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == [1, 2]
    assert len(calls) == 3


def test_ctrl_c_in_the_demo(monkeypatch):
    import smcgen.demo.run

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(smcgen.demo.run, "demo", interrupt)
    done = run("demo")
    assert done.exit_code == 130
    assert done.stderr.strip() == "smcgen: interrupted"
