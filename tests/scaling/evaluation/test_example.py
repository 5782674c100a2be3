"""The script for Puri et al.'s Table 1, unchanged, on tiny models of the same architectures and layouts."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from transformers import Qwen2ForCausalLM

from smcgen.scaling.evaluation import Results
from tests.text.build import build
from tests.text.rewards._prms import CHATML, byte_level, reference

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
def test_the_script_runs_on_qwen_architectures(tmp_path, monkeypatch, capsys):
    policy = byte_level(("<|im_start|>", "<|im_end|>"), CHATML)
    # random weights of this width would never write a box: the run is what is tested, not its answers
    build(Qwen2ForCausalLM, len(policy), max_position_embeddings=2048).save_pretrained(
        tmp_path / "policy"
    )
    policy.save_pretrained(tmp_path / "policy")
    prm = reference("qwen", max_position_embeddings=2048)
    prm.model.save_pretrained(tmp_path / "prm")
    prm.tokenizer.save_pretrained(tmp_path / "prm")
    row = {"problem": "What is $1+1$?", "answer": "2", "unique_id": "test/1.json", "level": 1}
    (tmp_path / "math500.jsonl").write_text(json.dumps(row) + "\nnot json\n")
    arguments = [
        *("--task", tmp_path / "math500.jsonl", "--policy", tmp_path / "policy"),
        *("--reward", tmp_path / "prm", "--n", 2, "--max-tokens", 12, "--out", tmp_path / "out"),
    ]
    monkeypatch.setattr(sys, "argv", ["puri_table1.py", *map(str, arguments)])
    runpy.run_path(str(ROOT / "examples" / "puri_table1.py"))
    shown = capsys.readouterr().out
    assert "line 2: expected a JSON object" in shown
    assert "particle filter (published)" in shown
    records = list(Results.load(tmp_path / "out"))
    assert len(records) == 6
    assert all(record.error is None for record in records)
    assert all(record.cost["tokens_generated"] > 0 for record in records)
