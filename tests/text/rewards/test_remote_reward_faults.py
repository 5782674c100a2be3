"""`RemoteReward` on a server that hangs, fails for a while, is asked by many, or repeats the key that it was given."""

import asyncio
import logging
import threading
import time

import numpy as np
import pytest

from smcgen.core.smc import smc
from smcgen.errors import InvalidArgument, RewardError
from smcgen.text import TextModel, Tilt
from smcgen.text._http import ServerError
from smcgen.text.identity import identity
from smcgen.text.rewards.remote import RemoteReward
from tests.text.engines.served import serving
from tests.text.rewards._prms import POLICY
from tests.text.rewards._texts import Writer
from tests.text.rewards.test_remote_reward import Pooling, classifier, scored
from tests.text.toy import ToyEngine

pytest.importorskip("httpx")
KEY = "sk-very-secret-0123456789"


@pytest.fixture
def server():
    with serving(Pooling(classifier(1), POLICY)) as running:
        yield running


@pytest.fixture
def quick(monkeypatch):
    """Retries that come at once; the waits that were meant are kept."""
    waits, sleep = [], asyncio.sleep

    async def instead(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr("smcgen.text._http.asyncio.sleep", instead)
    return waits


def texts(count=8):
    return Writer.of([f"ab {k} a" for k in range(count)], POLICY, ["So a"])


def test_a_failure_that_passes_is_tried_again_alone(server, quick):
    want = scored(RemoteReward(server.url), texts())[1]
    part = RemoteReward(server.url, batch_size=2, max_concurrency=1)
    server.asked.clear()
    lost = (200, b"{}", {"Content-Length": "100", "Connection": "close"})
    server.faults = [None, (500, b"oops", {}), (503, b"", {"Retry-After": "7"}), None, lost]
    np.testing.assert_allclose(scored(part, texts())[1], want, atol=1e-6)
    assert len(server.asked) == 4 + 3  # batches, and what was asked again
    assert len(quick) == 3
    assert max(quick) == 7.0


@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_failure_that_stays_is_one_error_after_so_many_attempts(server, quick, status):
    part = RemoteReward(server.url, retries=2)
    server.faults = [(status, b'{"error": {"message": "no memory"}}', {})] * 99
    with pytest.raises(ServerError, match=f"/classify.*{status}.*no memory.*3 attempts"):
        scored(part, texts())
    assert len(server.asked) == 3
    server.faults = []
    assert np.isfinite(scored(part, texts())[1]).all()  # and it can be asked again


def test_what_is_refused_is_not_tried_again(server, quick):
    part = RemoteReward(server.url)
    server.faults = [(400, b'{"error": {"message": "too long"}}', {})] * 9
    with pytest.raises(ServerError, match="400.*too long"):
        scored(part, texts())
    assert len(server.asked) == 1
    assert not quick


def test_a_server_that_hangs(server, quick):
    part = RemoteReward(server.url, timeout=0.2, retries=1)
    gone = threading.Event()
    server.faults = [gone.wait] * 2
    with pytest.raises(ServerError, match=r"no answer within 0\.2 s.*timeout=.*2 attempts"):
        scored(part, texts())
    gone.set()
    assert len(server.asked) == 2


def test_no_more_requests_at_a_time_than_allowed(server):
    """Of all who ask: runs in threads share the bound."""
    part = RemoteReward(server.url, batch_size=1, max_concurrency=3)
    server.faults = [lambda: time.sleep(0.02)] * 24
    found = {}

    def ask(k):
        found[k] = scored(part, texts(12))[1]

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 < server.most <= 3
    assert len(server.asked) == 24
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("endpoint", ["classify", "pooling"])
def test_an_endpoint_that_is_not_there_says_what_to_do(server, endpoint):
    part = RemoteReward(server.url, endpoint=endpoint, label=0)
    server.faults = [(404, b'{"detail":"Not Found"}', {})]
    with pytest.raises(ServerError, match=f"404.*no /{endpoint} is offered"):
        scored(part, texts())
    server.faults = [(404, b'{"error": {"message": "The model `x` does not exist."}}', {})]
    with pytest.raises(ServerError, match="does not exist") as caught:
        scored(part, texts())
    assert "offered" not in str(caught.value)


def test_no_score_names_what_to_read_instead(server):
    server.faults = [(404, b'{"detail":"Not Found"}', {})]
    with pytest.raises(ServerError, match="no /score is offered.*one label.*reads='joined'"):
        scored(RemoteReward(server.url, reads="pair"), texts())


def test_the_key_is_sent_and_never_shown(server, quick, caplog):
    caplog.set_level(logging.DEBUG)
    part = RemoteReward(server.url, api_key=KEY, retries=1)
    session, _ = scored(part, texts())
    assert set(server.keys) == {f"Bearer {KEY}"}
    shown = [repr(part), str(vars(part)), identity(part), repr(part._client), repr(session)]
    body = b'{"error": {"message": "Incorrect API key provided: %s"}}' % KEY.encode()
    bad = [(401, body), (500, KEY.encode() * 20), (404, body), (200, b"x" * 290 + KEY.encode())]
    for status, text in bad:
        server.faults = [(status, text, {})] * 2
        with pytest.raises(ServerError) as caught:
            scored(part, texts())
        error: BaseException | None = caught.value
        while error is not None:
            shown += [str(error), repr(error)]
            error = error.__context__
    server.faults = []
    nonsense = [{"wrong": KEY}, {"data": [{"index": KEY}]}]
    nonsense += [{"data": [{"index": 0, "probs": "x" * 260 + KEY}]}]
    for answer in nonsense:  # with which a server repeats what it was sent
        server.spoil = lambda _, answer=answer: answer
        with pytest.raises(RewardError) as wrong:
            scored(part, texts(1))
        shown += [str(wrong.value), repr(wrong.value.__cause__)]
    shown += [record.getMessage() for record in caplog.records]
    assert not any(KEY[:6] in text for text in shown)
    with pytest.raises(InvalidArgument) as caught:
        RemoteReward(server.url, api_key=KEY + "\n")
    assert KEY not in str(caught.value)


def test_a_run_whose_reward_fails_keeps_what_there_is(server, quick):
    engine = ToyEngine(1)
    server.tokenizer = engine.tokenizer
    part = RemoteReward(server.url, retries=1, output="logit")

    def down(told):
        if told.t == 2:
            server.faults = [(503, b"going down", {})] * 99

    with pytest.raises(ServerError, match="going down") as caught:
        smc(TextModel(engine, "a", Tilt(part), 1, 8, 4), 0, 8, callback=down)
    assert caught.value.result.num_steps >= 2
