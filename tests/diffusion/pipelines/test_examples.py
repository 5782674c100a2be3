"""The scripts for a GPU, on tiny pipelines saved here and with a reward that needs no model."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.diffusion.pipelines import tiny

ROOT = Path(__file__).parents[3]


@pytest.fixture
def run(monkeypatch, capsys):
    """A script with arguments, in this process; what it printed."""
    monkeypatch.syspath_prepend(ROOT / "examples")

    def of(name, folder, *arguments):
        reward = "tests.diffusion.pipelines.test_examples:red"
        given = [name, "--model", folder, "--reward", reward, *arguments]
        monkeypatch.setattr(sys, "argv", [str(a) for a in given])
        runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")
        return capsys.readouterr().out

    return of


def red(images, prompts):
    assert len(images) == len(prompts)
    return images[:, 0].mean((1, 2)) - images[:, 1:].mean((1, 2, 3))


@pytest.mark.slow
def test_stable_diffusion(run, tmp_path):
    tiny.stable_diffusion().save_pretrained(tmp_path / "model")
    items = [{"prompt": "a cat", "tag": "single_object"}, {"prompt": "two dogs", "tag": "counting"}]
    (tmp_path / "prompts.jsonl").write_text("\n".join(map(json.dumps, items)))
    options = ["--prompts", tmp_path / "prompts.jsonl", "--out", tmp_path / "out", "--k", 4]
    options += ["--steps", 4, "--every", 2, "--lambda", 20, "--options", '{"guidance_scale": 3.0}']
    printed = run("stable_diffusion.py", tmp_path / "model", *options)
    assert "2 runs, k=4" in printed
    rows = [json.loads(x) for x in (tmp_path / "out/results.jsonl").read_text().splitlines()]
    assert [r["prompt"] for r in rows] == ["a cat", "two dogs"]
    assert all(r["nfe"] == 16 and r["reward_calls"] == 8 for r in rows)  # at step 2, and at the end
    assert json.loads((tmp_path / "out/00001/metadata.jsonl").read_text()) == items[1]
    with Image.open(tmp_path / "out/00001/samples/0001.png") as picture:
        assert picture.size == (16, 16)


@pytest.mark.slow
def test_flux(run, tmp_path):
    tiny.flux().save_pretrained(tmp_path / "model")
    options = ["--prompt", "a cat", "--out", tmp_path / "out", "--k", 4, "--steps", 3, "--every", 1]
    options += ["--options", '{"height": 16, "width": 16, "max_sequence_length": 16}']
    assert "1 runs, k=4" in run("flux.py", tmp_path / "model", *options)
