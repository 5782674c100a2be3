"""`smcgen serve` with its other engines and rewards, as processes of their own."""

import json

import httpx
import pytest
from typer.testing import CliRunner

from smcgen.cli import app
from smcgen.shipped import shipped
from smcgen.text.rewards import ProcessReward
from tests.serve.processes import process
from tests.text import tiny, vllm_tiny
from tests.text.engines.served import Server, serving, toy

ASKED = {"prompt": "ab", "seed": 1, "n": 4, "max_tokens": 6}


def answered(served, model):
    """The texts of one request; then the server is stopped."""
    got = httpx.post(f"{served.url}/v1/completions", json=ASKED | {"model": model}, timeout=60)
    assert got.status_code == 200, got.text
    served.interrupt()
    assert served.ended() == 0, served.said
    assert "Traceback" not in served.said
    return [choice["text"] for choice in got.json()["choices"]]


def test_a_remote_engine(tmp_path):
    tiny.tokenizer().save_pretrained(tmp_path)
    options = json.dumps({"tokenizer": str(tmp_path), "api_key": "for-the-upstream"})
    with (
        serving(Server(toy(0))) as upstream,
        process(upstream.url, "--engine", "remote", "--engine-args", options) as served,
    ):
        texts = answered(served, "toy")  # as it is called there: no address is shown
        assert upstream.asked
        assert set(upstream.keys) == {"Bearer for-the-upstream"}
    assert len(texts) == 4
    assert "for-the-upstream" not in served.said


@vllm_tiny.needs_vllm
@pytest.mark.filterwarnings("ignore")
def test_vllm():
    """The same texts as on transformers."""
    options = json.dumps(vllm_tiny.SMALL | {"max_num_seqs": 16})
    arguments = (str(vllm_tiny.folder()), "--model-name", "m", "--no-warm-up")
    with process(*arguments, "--engine", "vllm", "--engine-args", options) as served:
        texts = answered(served, "m")
    with process(*arguments) as served:
        assert texts == answered(served, "m")


def test_the_reward_and_the_law_are_as_they_were_asked_for(monkeypatch):
    from smcgen.serve import server

    started = []
    monkeypatch.setattr(server, "run_server", lambda config, sockets: started.append(config))
    command = ["serve", str(shipped("tape-policy")), "--port", "0", "--top-p", ".9", "--top-k", "7"]
    command += ["--reward", str(shipped("tape-prm-good")), "--reward-args", '{"batch_size": 5}']
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    (config,) = started
    assert (config.top_p, config.top_k) == (0.9, 7)
    assert isinstance(config.reward, ProcessReward)
    assert config.reward.batch_size == 5
