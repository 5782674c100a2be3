"""Requests that end otherwise: the client leaves, time is up, the queue is full, the server is stopped."""

import json
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import openai
import pytest

from smcgen.serve import service
from smcgen.text import FunctionReward
from tests.serve import running

BODY = {"model": "m", "prompt": "ab.", "seed": 1}


def post(server, timeout=60.0, **fields):
    return httpx.post(f"{running.url(server)}/v1/completions", json=BODY | fields, timeout=timeout)


def sent_by_hand(server, **fields):
    """The connection of a request that was sent, whose answer is not awaited."""
    body = json.dumps(BODY | fields).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n"
    connection = socket.create_connection(server.servers[0].sockets[0].getsockname()[:2])
    connection.sendall(head.encode() + b"content-type: application/json\r\n\r\n" + body)
    return connection


def counted(server, name, **labels):
    """A value of /metrics."""
    text = httpx.get(f"{running.url(server)}/metrics").text
    shown = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    for line in text.splitlines():
        if line.startswith(f"{name}{{{shown}}} " if shown else f"{name} "):
            return float(line.split()[-1])
    return 0.0


@pytest.fixture
def threads():
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.mark.parametrize("broken", [False, True])
def test_a_server_warms_up_before_it_takes_requests(broken, caplog):
    seen = []

    def reward(texts):
        seen.append(len(texts))
        return None if broken and len(seen) == 1 else [0.1] * len(texts)

    steered = {"reward": FunctionReward(reward), "step": 1, "max_tokens": 8, "warm_up": True}
    with running.serving(running.config(engine=running.chatty(), **steered)) as server:
        warm = len(seen)
        assert warm > 0
        assert ("the warm-up failed" in caplog.text) == broken
        labels = {"outcome": "ok", "strategy": "particle-filter"}
        assert counted(server, "smcgen_runs_total", **labels) == 0
        assert post(server).status_code == 200
        assert len(seen) > warm


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_frees_its_slot(stream, threads):
    gate, settings = running.gated()
    with running.serving(settings) as server:
        connection = sent_by_hand(server, stream=stream)
        gate.wait_for(1)
        (job,) = server.service.pool._running
        connection.close()  # in the middle of the run
        running.until(lambda: job.reason == "disconnect")
        waits = threads.submit(post, server)
        running.until(lambda: server.service.pool.waiting == 1)
        gate.opened.set()
        assert waits.result(60).status_code == 200
        counts = {"strategy": "particle-filter"}
        assert counted(server, "smcgen_runs_total", outcome="disconnect", **counts) == 1
        assert counted(server, "smcgen_runs_total", outcome="ok", **counts) == 1
        assert counted(server, "smcgen_tokens_total", kind="generated") > 4  # the lost ones too
        assert counted(server, "smcgen_running") == 0


def test_a_waiting_client_that_leaves_frees_its_place(threads):
    gate, settings = running.gated()
    with running.serving(settings) as server:
        runs = threads.submit(post, server)
        gate.wait_for(1)
        connection = sent_by_hand(server)
        running.until(lambda: server.service.pool.waiting == 1)
        connection.close()
        running.until(lambda: server.service.pool.waiting == 0)
        gate.opened.set()
        assert runs.result(60).status_code == 200


@pytest.mark.slow
def test_a_full_queue_says_when_to_come_back(threads):
    gate, settings = running.gated()
    with running.serving(settings) as server:
        runs = [threads.submit(post, server)]
        gate.wait_for(1)
        runs.append(threads.submit(post, server))
        running.until(lambda: server.service.pool.waiting == 1)
        for stream in (False, True):
            got = post(server, stream=stream)
            assert got.status_code == 429
            assert got.json()["error"]["code"] == "queue_full"
            assert int(got.headers["retry-after"]) >= 1
        health = httpx.get(f"{running.url(server)}/health").json()
        assert health == {"status": "ok", "running": 1, "waiting": 1}
        retried = threads.submit(
            lambda: running.client(server, max_retries=8).completions.create(**BODY)
        )
        time.sleep(0.3)
        gate.opened.set()
        texts = {run.result(60).json()["choices"][0]["text"] for run in runs}
        assert texts == {retried.result(60).choices[0].text}
        assert counted(server, "smcgen_requests_total", code="429", path="/v1/completions") >= 2


@pytest.mark.parametrize("stream", [False, True])
def test_time_is_up_and_there_is_something(stream):
    gate, settings = running.gated(timeout=0.5)
    with running.serving(settings) as server:
        threading.Timer(1.0, gate.opened.set).start()
        if stream:
            with pytest.raises(openai.APIError, match="time allowed"):
                list(running.client(server).completions.create(**BODY, stream=True))
        else:
            got = post(server)
            assert got.status_code == 504
            assert got.headers["x-should-retry"] == "false"
            assert got.json()["error"]["code"] == "timeout"
            ours = got.json()["smcgen"]
            assert ours["steps"] == 1
            assert len(ours["text"]) <= 1
            assert ours["cost"]["tokens_generated"] == 4
        labels = {"outcome": "timeout", "strategy": "particle-filter"}
        assert counted(server, "smcgen_runs_total", **labels) == 1


def test_time_is_up_and_the_step_does_not_end(monkeypatch):
    monkeypatch.setattr(service, "LATE", 0.2)
    gate, settings = running.gated(timeout=0.3)
    with running.serving(settings) as server:
        got = post(server)
        assert got.status_code == 504
        assert "smcgen" not in got.json()
        assert server.service.pool.running == 1  # the truth: its thread is still at it
        gate.opened.set()
        running.until(lambda: server.service.pool.running == 0)


def test_time_is_up_in_the_queue(threads):
    gate, settings = running.gated(timeout=1.0)
    with running.serving(settings) as server:
        runs = threads.submit(post, server)
        gate.wait_for(1)
        assert post(server).status_code == 504
        gate.opened.set()
        assert runs.result(60).status_code == 504


def test_stopping_lets_what_was_taken_end(threads):
    gate, settings = running.gated(grace=30.0)
    with running.serving(settings) as server:
        sent = [threads.submit(post, server, stream=stream) for stream in (False, True)]
        gate.wait_for(1)
        running.until(lambda: server.service.pool.waiting == 1)
        where = running.url(server)
        server.should_exit = True
        running.until(lambda: server.service.pool.draining)
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{where}/health", timeout=1)
        gate.opened.set()
        got = [one.result(60) for one in sent]
        assert [one.status_code for one in got] == [200, 200]
        streamed = next(one for one in got if one.text.startswith(":"))
        assert streamed.text.endswith("data: [DONE]\n\n")


def test_stopping_ends_what_takes_too_long(threads):
    gate, settings = running.gated(grace=0.2)
    with running.serving(settings) as server:
        runs = threads.submit(post, server)
        gate.wait_for(1)
        waits = threads.submit(post, server)
        running.until(lambda: server.service.pool.waiting == 1)
        server.should_exit = True
        assert waits.result(60).status_code == 503
        gate.opened.set()
        got = runs.result(60)
        assert got.status_code == 503
        assert got.json()["error"]["code"] == "shutting_down"
        assert got.json()["smcgen"]["steps"] >= 1


def test_what_is_counted(chat):
    before = counted(chat, "smcgen_tokens_total", kind="generated")
    url = f"{running.url(chat)}/v1/completions"
    got = httpx.post(url, json=BODY, timeout=60).json()
    cost = got["smcgen"]["cost"]
    after = counted(chat, "smcgen_tokens_total", kind="generated")
    assert after - before == cost["tokens_generated"]
    text = httpx.get(f"{running.url(chat)}/metrics").text
    for name in (
        'smcgen_requests_total{code="200",path="/v1/completions"}',
        'smcgen_request_seconds_bucket{le="0.05",path="/v1/completions"}',
        'smcgen_runs_total{outcome="ok",strategy="particle-filter"}',
        'smcgen_run_seconds_count{strategy="particle-filter"}',
        "smcgen_queue_seconds_count",
        'smcgen_tokens_total{kind="prefilled"}',
        'smcgen_tokens_total{kind="reward"}',
        "smcgen_running",
        "smcgen_waiting",
    ):
        assert name in text
    httpx.get(f"{running.url(chat)}/a/path/of/the/clients")
    text = httpx.get(f"{running.url(chat)}/metrics").text
    assert "clients" not in text
    assert 'smcgen_requests_total{code="404",path="other"}' in text
