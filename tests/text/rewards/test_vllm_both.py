"""A policy and a reward on vLLM in one process steer as the same models on transformers do."""

import re
from pathlib import Path

import numpy as np
import pytest

import smcgen
from smcgen.text import VLLM, Transformers
from smcgen.text.rewards import ProcessReward, VLLMProcessReward
from tests.text import vllm_tiny
from tests.text.vllm_tiny import SMALL

pytestmark = [vllm_tiny.needs_vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
ROOT = Path(__file__).parents[3]
MODELS = ROOT / "models"
PROMPTS = ["Q:12*7+55-31+48*3-19+77*2\n", "Q:47+86*3-19*7+58\n", "Q:90-17*4+86*9\n"]  # it errs


@pytest.fixture(autouse=True)
def light():
    vllm_tiny.light()


@pytest.fixture(scope="module")
def both():
    vllm_tiny.light()
    with (
        VLLM(MODELS / "tape-policy", **SMALL) as policy,
        VLLMProcessReward(MODELS / "tape-prm-good", **SMALL) as reward,
    ):
        yield policy, reward


@pytest.fixture(scope="module")
def plain():
    return Transformers(MODELS / "tape-policy"), ProcessReward(MODELS / "tape-prm-good")


@pytest.mark.parametrize("prompt", [PROMPTS[0], PROMPTS], ids=["one problem", "three in threads"])
@pytest.mark.parametrize("step", ["\n", 4], ids=["lines", "tokens"])
def test_they_steer_to_the_texts_and_evidence_of_transformers(both, plain, prompt, step):
    options = {"n_particles": 8, "max_tokens": 90, "step": step, "temperature": 1.3}
    options |= {"key": 5, "ess_threshold": 0.9}
    found, wanted = (
        smcgen.steer(prompt, model=policy, reward=reward, **options)
        for policy, reward in (both, plain)
    )
    pairs = [(found, wanted)] if isinstance(prompt, str) else zip(found, wanted, strict=True)
    pairs = list(pairs)
    assert min(ours.log_evidence for ours, _ in pairs) < -0.1  # there was something to steer
    alone = smcgen.steer(prompt, model=both[0], **options)
    texts = lambda results: [r.texts for r in (results if isinstance(results, list) else [results])]
    assert texts(found) != texts(alone)  # it was steered
    for ours, theirs in pairs:
        assert ours.texts == theirs.texts
        np.testing.assert_allclose(ours.weights, theirs.weights, atol=1e-3)
        assert ours.log_evidence == pytest.approx(theirs.log_evidence, abs=1e-2)
        assert ours.cost.reward_calls > 0


def test_the_example_of_the_documentation(monkeypatch, capsys):
    monkeypatch.chdir(ROOT)
    page = (ROOT / "docs" / "engines.md").read_text()
    code = next(b for b in re.findall(r"```py\n(.*?)```", page, re.DOTALL) if "tape-prm-good" in b)
    exec(compile(code, "engines.md", "exec"), {"__name__": "page"})
    best = capsys.readouterr().out.strip().splitlines()[-4:]
    assert best == re.findall(r"# (.*), line by line", code)[0].split(", ")
