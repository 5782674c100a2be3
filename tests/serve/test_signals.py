"""Real signals to a real process, and an address that is taken."""

import signal
import socket
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from typer.testing import CliRunner

from smcgen.cli import app
from smcgen.serve import binding, server
from smcgen.shipped import shipped
from smcgen.text.engines import names
from tests.serve import running
from tests.serve.processes import at_work, process

MODEL = str(shipped("tape-policy"))
CLIENTS = 8


def ask(url, n):
    body = {"model": "tape-policy", "prompt": "Q:12+34*5\n", "n": n, "seed": 1}
    return httpx.post(f"{url}/v1/completions", json=body, timeout=60)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c(times):
    """Once: those who were there are answered. Twice: they are told so, and the process ends, in good order."""
    with (
        process(MODEL, "--no-warm-up", "--max-particles", "512") as served,
        ThreadPoolExecutor(CLIENTS) as clients,
    ):
        url = served.url
        asked = [clients.submit(ask, url, 64 if times == 1 else 512) for _ in range(CLIENTS)]
        running.until(lambda: at_work(url) == CLIENTS, 60)
        for _ in range(times):
            served.interrupt()
            running.until(lambda: "Shutting down" in served.said)
        got = [one.result(60) for one in asked]
        assert served.ended() == (130 if times == 2 else 0), served.said
    if times == 1:
        assert {one.status_code for one in got} == {200}
    else:
        assert {one.status_code for one in got} == {503}
        assert {one.json()["error"]["code"] for one in got} == {"shutting_down"}
    for word in ("Traceback", "CancelledError", "terminate called"):
        assert word not in served.said


def test_who_is_not_told_in_time_is_not_waited_for(monkeypatch):
    """Before anything is served, and at a third Ctrl-C, the process ends where it is."""
    ends = []
    monkeypatch.setattr(server, "_leave", ends.append)
    one = server.Server(running.config(engine=running.chatty()))
    one.handle_exit(signal.SIGTERM, None)
    assert one.should_exit
    assert not ends
    one.handle_exit(signal.SIGTERM, None)  # asked again, politely
    assert not ends
    one.handle_exit(signal.SIGINT, None)
    assert ends == [130]


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_port_in_use_is_found_before_anything_is_loaded(monkeypatch, host):
    monkeypatch.setattr(names, "load_engine", lambda *_: pytest.fail("it was loaded"))
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = CliRunner().invoke(app, ["serve", MODEL, "--host", host, "--port", str(port)])
        assert done.exit_code == 3, done.output
        assert done.stderr.startswith(f"smcgen: cannot listen on {host}:{port}: Address already in")
        assert len(done.stderr.splitlines()) == 1
        with pytest.raises(binding.CannotListen, match="cannot listen"):
            server.run_server(running.config(engine=None, model="m", port=port))


def test_of_two_that_start_together_one_serves():
    """An address that is bound refuses clients until it is listened to, so that two may have it."""
    (first,) = binding.bind("127.0.0.1", 0)
    (second,) = binding.bind(*first.getsockname())
    with first, second:
        first.listen()
        with pytest.raises(SystemExit) as ended:
            server.Server(running.config(engine=running.chatty())).run(sockets=[second])
        assert ended.value.code == 3


def test_a_host_that_is_not_this_machine():
    with pytest.raises(binding.CannotListen, match=r"cannot listen on 192\.0\.2\.1:0"):
        binding.bind("192.0.2.1", 0)
