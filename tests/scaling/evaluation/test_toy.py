"""A real engine, small enough to know the answer: strategies through `evaluate`, figures and tables included."""

import csv
import json
import math

import numpy as np
import pytest

from smcgen.scaling.evaluation import (
    Degraded,
    Problem,
    Task,
    evaluate,
    figure,
    save,
    summary,
    table,
)
from smcgen.scaling.evaluation.results import Results
from smcgen.scaling.evaluation.tables import power_laws, ratio_table, ratios
from smcgen.scaling.writing import Writing
from smcgen.text.rewards import FunctionReward
from tests.text.toy import ALPHABET, EOS, ToyEngine

ENGINE = ToyEngine()
WRITING = Writing(step=2, max_tokens=4, answer="([ab])")
PROBLEMS, SEEDS, N = 24, (0, 1), 4
TASK = Task("toy", [Problem(f"p{i}", "a", "a") for i in range(PROBLEMS)])
reward = FunctionReward(lambda texts: [0.9 if "a" in t else 0.2 for t in texts], probability=True)
REWARDS = {"good": reward, "noisy": Degraded(reward, noise=3.0)}
STRATEGIES = ("sample", "best-of-n", "particle-filter")
pytestmark = pytest.mark.slow  # compiling, mostly


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("toy")


@pytest.fixture(scope="module")
def results(folder) -> Results:
    return evaluate(
        *(TASK, STRATEGIES, ENGINE, REWARDS, (1, N), SEEDS), writing=WRITING, out=folder
    )


def chance() -> float:
    """P(the last letter of a text is an a), by enumeration."""
    law = ENGINE.law(WRITING.max_tokens)
    letters = lambda ids: [ALPHABET[i] for i in ids if i < EOS and ALPHABET[i] in "ab"]
    return sum(math.exp(lp) for ids, lp in law.items() if letters(ids)[-1:] == ["a"])


def test_pass_at_k_is_that_of_the_enumerated_model(results):
    """Texts of one problem are independent; all problems are the same here, so they estimate one number."""
    p = chance()
    coverage = results.coverage("sample")
    texts = PROBLEMS * N * len(SEEDS)
    assert len(coverage) == N * len(SEEDS)
    assert abs(coverage[0] - p) < 4.9 * (p * (1 - p) / texts) ** 0.5
    together = PROBLEMS * len(
        SEEDS
    )  # disjoint groups of N: the estimate's variance is at most theirs
    q = 1 - (1 - p) ** N
    assert abs(coverage[N - 1] - q) < 4.9 * (q * (1 - q) / together) ** 0.5


def test_all_records_are_there_and_agree_with_each_other(results):
    cells = {(r, s, b) for s in STRATEGIES for b in ("1", "4") for r in REWARDS} | {
        (None, s, b) for s in STRATEGIES for b in ("1", "4")
    }
    assert set(results.cells) == {(r, s, b) for r, s, b in cells if (r is None) == (s == "sample")}
    assert len(results) == len(results.cells) * PROBLEMS * len(SEEDS)
    # one text is one text, whoever asks for it: strategies share their random numbers
    once = results.solved((None, "sample", "1"))
    for cell in results.cells:
        if cell[2] == "1":
            assert (results.solved(cell) == once).all()
    # an error of the reward changes no text of best-of-n, only which is chosen
    texts = lambda cell: {r.key[0::4]: r.texts for r in results.cells[cell]}
    assert texts(("good", "best-of-n", "4")) == texts(("noisy", "best-of-n", "4"))


def test_batches_change_nothing(results):
    some = Task("toy", list(TASK)[:4])
    again = evaluate(
        some, ["best-of-n"], ENGINE, REWARDS["noisy"], N, SEEDS[:1], writing=WRITING, batch=2
    )
    ((_, rows),) = again.cells.items()
    kept = {r.key[0::4]: r for r in results.cells["noisy", "best-of-n", "4"]}
    for r in rows:
        expected = kept[r.key[0::4]]
        assert (r.texts, r.scores, r.answer) == (expected.texts, expected.scores, expected.answer)
        assert r.cost["tokens_generated"] == expected.cost["tokens_generated"]


def test_the_summary_says_what_the_records_say(results):
    rows = {(r.reward, r.strategy, r.budget): r for r in summary(results)}
    for cell, records in results.cells.items():
        row = rows[cell]
        assert row.accuracy == pytest.approx(np.mean([r.right for r in records]))
        assert row.low <= row.accuracy <= row.high
        assert row.coverage == pytest.approx(np.mean([any(r.correct) for r in records]))
        assert row.tokens == pytest.approx(np.mean([r.cost["tokens_generated"] for r in records]))
        assert (row.problems, row.seeds, row.failed) == (PROBLEMS, len(SEEDS), 0)
    assert rows["good", "best-of-n", "4"].gain > rows["noisy", "best-of-n", "4"].gain
    best = rows["good", "best-of-n", "4"]
    assert best.gain_low <= best.gain <= best.gain_high


def test_what_is_saved_is_what_is_shown(results, folder, capsys):
    from rich.console import Console

    csv_path, md_path, json_path = save(results, folder)
    rows = summary(results)
    with csv_path.open() as file:
        read = list(csv.DictReader(file))
    assert [float(r["accuracy"]) for r in read] == [r.accuracy for r in rows]
    assert md_path.read_text().count("\n") == len(rows) + 2
    whole = json.loads(json_path.read_text())
    assert [r["strategy"] for r in whole["rows"]] == [r.strategy for r in rows]
    assert {r["strategy"] for r in whole["ratios"]} == set(STRATEGIES[:2])
    assert [*power_laws(results)] == [*whole["coverage_power_laws"]]
    Console(width=200).print(table(results))
    Console(width=200).print(ratio_table(*ratios(results)))
    shown = capsys.readouterr().out
    assert f"toy: {PROBLEMS} problems, {len(SEEDS)} seeds" in shown
    assert "best-of-n (noisy)" in shown
    assert len(Results.load(folder)) == len(results)


def test_the_figure(results, tmp_path):
    pytest.importorskip("matplotlib")
    fig = figure(results, tmp_path / "accuracy.png")
    assert (tmp_path / "accuracy.png").stat().st_size > 10_000
    assert len(fig.axes) == 4  # two rewards, against N and against tokens
    drawn = {line.get_label(): line for line in fig.axes[0].lines}
    assert set(drawn) == set(STRATEGIES)
    expected = [
        r.accuracy for r in summary(results) if (r.reward, r.strategy) == ("good", "best-of-n")
    ]
    assert drawn["best-of-n"].get_ydata().tolist() == expected
