"""The shipped models load offline and are as good as their cards say; their scripts run."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from models import countdown, tape, train_countdown, train_tape  # noqa: E402
from models._countdown_training import continuations, facts  # noqa: E402
from models._metrics import auc, ece  # noqa: E402
from models._reward import measure  # noqa: E402
from models._sample import sample  # noqa: E402
from models._task import COUNTDOWN, TAPE  # noqa: E402

ROOT = Path(tape.__file__).parent
POLICIES = {"tape-policy": TAPE, "countdown-policy": COUNTDOWN}
REWARDS = {  # folder: (task, a bound well below what the card reports)
    "tape-prm-good": (TAPE, 0.93),
    "tape-prm-fair": (TAPE, 0.75),
    "countdown-prm": (COUNTDOWN, 0.9),
}
FOLDERS = [*POLICIES, *REWARDS]
TAPE_PROMPT, TAPE_TEXT = "Q:47+86*3-19\n", "47+86=33\n33*3=99\n99-19=80\nA:80"
SUMS_PROMPT = "N:09,05,03,02 T:46\n"
SUMS_TEXT = "09*05=45;45,03,02\n03-02=01;45,01\n45+01=46;46"


@cache
def tokenizer(name: str):
    return transformers.AutoTokenizer.from_pretrained(ROOT / name, local_files_only=True)


@cache
def written(task_name: str) -> list:
    """Texts the policy writes for a few held-out problems."""
    torch.set_num_threads(1)
    folder = f"{task_name}-policy"
    policy = transformers.LlamaForCausalLM.from_pretrained(ROOT / folder, local_files_only=True)
    rows = (tape if task_name == "tape" else countdown).load()[:48]
    prompts = [row["prompt"] for row in rows] * 2
    texts = sample(policy.eval(), tokenizer(folder), prompts, seed=3)
    return [(p, t, ended) for p, (t, ended) in zip(prompts, texts, strict=True)]


def test_tape_worked_by_hand():
    problem = tape.Tape.parse(TAPE_PROMPT)
    assert problem.prompt == TAPE_PROMPT
    assert problem.solution() == TAPE_TEXT
    assert problem.answer == "80"
    assert tape.apply(47, "-", 86) == 61
    assert tape.is_right(TAPE_PROMPT, TAPE_TEXT)
    assert tape.final_answer(TAPE_TEXT) == "80"
    assert tape.final_answer("47+86=33") is None


def test_tape_grades_stay_false_after_a_slip():
    assert tape.grade(TAPE_PROMPT, TAPE_TEXT) == [True] * 4
    slipped = TAPE_TEXT.replace("33*3=99", "33*3=89")
    assert tape.grade(TAPE_PROMPT, slipped) == [True, False, False, False]
    assert tape.grade(TAPE_PROMPT, TAPE_TEXT + "\nA:80")[-1] is False
    assert tape.grade(TAPE_PROMPT, "") == []


def test_tape_continuations_carry_a_slip_on():
    """After a wrong result the right next line starts from it, so a wrong tape teaches sums too."""
    wanted = tape.continuations("Q:47+86-19\n", "47+86=38\n38-19=19\nA:19")
    assert "".join(c or "?" for c in wanted) == "47+86=33?38-19=19\nA:19<eos>"


def test_countdown_worked_by_hand():
    assert countdown.grade(SUMS_PROMPT, SUMS_TEXT) == [True] * 3
    assert countdown.is_right(SUMS_PROMPT, SUMS_TEXT)
    assert countdown.still_solvable(SUMS_PROMPT, "") == 1.0
    assert countdown.still_solvable(SUMS_PROMPT, "09*05=45;45,03,02\n") == 1.0
    missed = SUMS_TEXT.replace("45+01=46;46", "45-01=44;44")
    assert countdown.still_solvable(SUMS_PROMPT, missed) == 0.0
    assert countdown.valid_lines(SUMS_PROMPT, missed) == [True] * 3


def test_countdown_continuations_know_what_follows_from_the_operands():
    """In a text that is no solution the operands are free, but what they give is not."""
    wanted = continuations(SUMS_PROMPT, "09*05=45;45,03,02\n03+02=04;45,04")
    assert "".join(c or "?" for c in wanted) == "??????45;45,03,02\n??????05???????"
    assert continuations(SUMS_PROMPT, SUMS_TEXT) == [*SUMS_TEXT, "<eos>"]


def test_countdown_facts_are_what_the_remaining_numbers_can_reach():
    found = facts(SUMS_PROMPT, SUMS_TEXT.replace("45+01=46;46", "45+01=47;47"))
    assert len(found) == 3
    assert found[0] is not None
    assert found[1] is not None
    assert set(np.flatnonzero(found[1])) == {44, 45, 46}
    assert set(np.flatnonzero(found[0])) == {39, 40, 44, 45, 46, 50}  # of 45, 3, 2
    assert found[2] is None


def test_countdown_results_stay_within_bounds():
    assert countdown.moves((50, 50)) == {}
    assert set(countdown.moves((30, 20))) == {"30+20=50;50", "30-20=10;10"}
    assert countdown.reachable((5, 5)) == {10, 25}


@pytest.mark.parametrize(
    "line",
    [
        "09*05=46;46,03,02",  # a wrong result
        "09*04=36;36,05,03,02",  # a number that is not there
        "09+09=18;18,05,03,02",  # a number that is there once only
        "09*05=45;45,03",  # a number lost
        "05-09=04;04,03,02",  # below 1
        "09/03=03;05,03,02",  # no such operation
        "09*05=45;03,45,02",  # numbers out of order
        "9*5=45;45,3,2",  # not of two digits
    ],
)
def test_countdown_rejects(line: str):
    assert countdown.valid_lines(SUMS_PROMPT, line) == [False]
    assert countdown.still_solvable(SUMS_PROMPT, line) == 0.0


def test_solvability_agrees_with_solutions():
    rng = np.random.default_rng(0)
    for _ in range(50):
        prompt, solution = countdown.random_problem(rng)
        assert countdown.is_right(prompt, solution)
        assert all(countdown.grade(prompt, solution))


@pytest.mark.parametrize("task", [TAPE, COUNTDOWN], ids=lambda t: t.name)
def test_training_never_draws_a_held_out_problem(task, monkeypatch: pytest.MonkeyPatch):
    """The generators are handed held-out problems first, and must pass over them."""
    rng = np.random.default_rng(0)
    if task is TAPE:
        banned = [tape.Tape.parse(p) for p in sorted(tape.held_out_prompts())[:20]]
        fresh = tape.random_tape(rng, 3)
        queue = iter([*banned, fresh])
        monkeypatch.setattr(tape, "random_tape", lambda *_: next(queue))
        drawn = next(tape.training_tapes(rng, 3, tape.held_out_prompts()))
        assert drawn == fresh
    else:
        banned = [(row["prompt"], "") for row in countdown.load()[:20]]
        fresh = countdown.random_problem(rng)
        queue = iter([*banned, fresh])
        monkeypatch.setattr(countdown, "random_problem", lambda *_: next(queue))
        assert next(countdown.training_problems(rng)) == fresh


def test_held_out_sets_are_distinct_and_right():
    rows = tape.load()
    assert len({row["prompt"] for row in rows}) == len(rows)
    assert sum(row["ops"] == 8 for row in rows) >= 400
    assert all(tape.Tape.parse(row["prompt"]).answer == row["answer"] for row in rows)
    sums = countdown.load()
    assert len(countdown.held_out()) == len(sums) >= 200
    assert all(countdown.still_solvable(row["prompt"], "") == 1.0 for row in sums)


@pytest.mark.parametrize("name", FOLDERS)
def test_folder_is_complete(name: str):
    folder = ROOT / name
    card = (folder / "README.md").read_text()
    assert "Apache-2.0" in card
    assert "python -m models." in card
    assert json.loads((folder / "metrics.json").read_text())["metrics"]
    assert list(folder.glob("*.safetensors"))
    assert not [*folder.glob("*.bin"), *folder.glob("*.pt"), *folder.glob("*.pkl")]


def test_weights_are_small():
    assert sum(p.stat().st_size for p in ROOT.rglob("*.safetensors")) <= 12e6


@pytest.mark.parametrize("name", FOLDERS)
def test_tokenizer_round_trip(name: str):
    """Prompts start with bos; otherwise decoding gives back the text exactly."""
    tok = tokenizer(name)
    prompt, text = (TAPE_PROMPT, TAPE_TEXT) if "tape" in name else (SUMS_PROMPT, SUMS_TEXT)
    ids = tok.encode(prompt + text, add_special_tokens=False)
    assert tok.decode(ids) == prompt + text
    assert tok.encode(prompt)[0] == tok.bos_token_id
    assert tok.encode(prompt)[1:] == ids[: len(prompt)]
    assert tok.eos_token_id != tok.pad_token_id
    assert tok.decode(tok.encode(prompt), skip_special_tokens=True) == prompt


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
def test_policy_ends_and_is_sometimes_right(name: str):
    rows = written(POLICIES[name].name)
    assert np.mean([ended for _, _, ended in rows]) > 0.95
    assert 0.02 < np.mean([POLICIES[name].is_right(p, t) for p, t, _ in rows]) < 0.7


@pytest.mark.slow
@pytest.mark.parametrize("name", REWARDS)
def test_reward_ranks_prefixes(name: str):
    task, bound = REWARDS[name]
    model = transformers.LlamaForTokenClassification.from_pretrained(
        ROOT / name, local_files_only=True
    )
    assert model.num_labels == 1
    rows = written(task.name)
    assert auc(*measure(model.eval(), tokenizer(name), rows, task.grade)) > bound


def test_metrics_on_hand_cases():
    assert auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1]) == 0.75
    assert auc([1, 1], [0, 1]) == 0.5
    assert ece([0.0, 1.0, 1.0], [0, 1, 0]) == pytest.approx(1 / 3)


@pytest.mark.slow
@pytest.mark.parametrize("script", [train_tape, train_countdown], ids=["tape", "countdown"])
def test_training_runs(script, tmp_path: Path):
    script.main(["--tiny", "--out", str(tmp_path), "--scratch", str(tmp_path / "scratch")])
    made = {path.parent.name for path in tmp_path.glob("*/model.safetensors")}
    assert made == {name for name in FOLDERS if name.startswith(script.TASK.name)}
