"""Two keys: what clients send to this server, and what this server sends to others. They are not mixed up."""

import json

import pytest
from typer.testing import CliRunner

from smcgen.cli import app
from tests.text import tiny
from tests.text.engines.served import Server, serving, toy

OURS, THEIRS = "key-of-our-clients", "key-for-the-upstream"


@pytest.mark.parametrize("theirs", [None, THEIRS])
def test_the_clients_key_is_not_sent_to_the_upstream_server(monkeypatch, tmp_path, theirs):
    from smcgen.serve import server

    started = []
    monkeypatch.setattr(server, "run_server", lambda config, sockets: started.append(config))
    tiny.tokenizer().save_pretrained(tmp_path)
    with serving(Server(toy(0))) as upstream:
        options = json.dumps({"tokenizer": str(tmp_path)})
        arguments = ["serve", upstream.url, "--engine", "remote", "--engine-args", options]
        env = {"SMCGEN_API_KEY": OURS, "SMCGEN_REMOTE_API_KEY": theirs}
        done = CliRunner().invoke(app, [*arguments, "--port", "0"], env=env)
        assert done.exit_code == 0, done.output
        assert set(upstream.keys) == {theirs and f"Bearer {theirs}"}
    (config,) = started
    assert config.api_key == OURS
    assert OURS not in repr(config) + done.output
    assert THEIRS not in repr(config) + done.output
