"""`Remote` against a local HTTP server: laws, agreement with `Transformers`, what is refused, and faults."""

import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from typing import Any

import jax
import numpy as np
import pytest

import smcgen
from smcgen.core.cost import Meter
from smcgen.core.smc import smc
from smcgen.core.status import SMCInterrupted
from smcgen.errors import EngineError, InvalidArgument, MissingExtra, SmcgenError
from smcgen.text._http import Client, ServerError
from smcgen.text.engines import Law
from smcgen.text.engines.remote import Remote
from smcgen.text.model import TextModel
from smcgen.text.potentials.tilt import Tilt
from smcgen.text.prompts import Prompt
from smcgen.text.randomness import StepRandomness
from smcgen.text.rewards import FunctionReward
from smcgen.text.sampling import Sampling
from smcgen.text.steps import Step
from tests.laws import assert_law
from tests.text import tiny
from tests.text.engines.served import Server, llama, serving, toy
from tests.text.engines.test_requests import TOKENS, assert_laws, tilt_reward
from tests.text.toy import EOS, ToyEngine

pytest.importorskip("httpx")
KEY = "sk-very-secret-0123456789"
A, B = Prompt((0,), "a"), Prompt((0, 1, 2), "ab.")


@pytest.fixture
def server():
    with serving(Server(toy(1))) as running:
        yield running


def remote(server: Any, **options: Any) -> Remote:
    return Remote(
        server.url, tokenizer=tiny.tokenizer(), **{"timeout": 30.0, "retries": 2, **options}
    )


def randomness(n: int, seed: int = 0) -> StepRandomness:
    return StepRandomness(jax.random.key(seed).reshape(1), n)


def write(engine, prompts=(A,), n=4, step=Step(tokens=3), law=Law(), meter=None):
    session = engine.open(list(prompts), n, law, meter or Meter())
    rows = np.arange(len(prompts) * n)
    keys = jax.random.split(jax.random.key(0), len(prompts))
    return session.extend(rows, step, np.full(len(rows), 20), StepRandomness(keys, n))


@pytest.fixture
def quick(monkeypatch):
    """Retries that come at once; the waits that were meant are kept."""
    waits = []
    import asyncio

    sleep = asyncio.sleep

    async def instead(seconds: float) -> None:
        waits.append(seconds)
        await sleep(0)

    monkeypatch.setattr("smcgen.text._http.asyncio.sleep", instead)
    return waits


# ---- laws ----


@pytest.mark.slow
@pytest.mark.parametrize("reproducible", [True, False])
def test_steered_law(server, reproducible):
    engine = remote(server, reproducible=reproducible, max_concurrency=1)
    tilt = Tilt(FunctionReward(tilt_reward))
    assert_laws(engine, tilt, "\n", 100 if reproducible else 200)
    sent = [len(body["prompt"]) for body in server.asked[4:]]
    assert max(sent) == (1 if reproducible else 64)


@pytest.mark.slow
def test_a_tempered_law_and_a_proposal(server):
    engine = remote(server, reproducible=False, max_concurrency=1)
    tilt = Tilt(FunctionReward(tilt_reward))
    assert_laws(engine, tilt, "\n", 200, Sampling(0.7, top_k=3))
    assert_laws(engine, tilt, "\n", 200, proposal=Sampling(1.5))


@pytest.mark.slow
def test_texts_follow_the_base_law(server):
    engine = remote(server)
    run = smc(TextModel(engine, "a", None, "\n", 8, TOKENS), 5, 1500)
    law = ToyEngine(1).law(TOKENS)
    counts = Counter(tuple(run.particles.tokens(r)) for r in range(1500))
    assert_law(np.array([counts[ids] for ids in law]), np.exp(list(law.values())))


def test_log_probabilities_and_law_are_those_of_transformers():
    with serving(Server(llama(), max_model_len=129)) as server:
        engine, own = remote(server), tiny.engine()
        for law in (Sampling(), Sampling(0.7), Sampling(top_k=3), Sampling(1.2, top_p=0.8)):
            got = write(engine, (A, B), 6, Step(tokens=5), Law(law))
            texts = [got.tokens[r, : got.lengths[r]].tolist() for r in range(12)]
            want = [x.sum() for x in own.score([A, B], texts, law)]
            np.testing.assert_allclose(got.log_base, want, atol=1e-3)
            np.testing.assert_array_equal(got.log_base, got.log_proposal)
        np.testing.assert_allclose(
            np.concatenate(engine.score([A, B], texts)),
            np.concatenate(own.score([A, B], texts)),
            atol=1e-3,
        )
        got = write(engine, (B,), 400, Step(tokens=2))
        law = np.zeros((5, 5))
        first = np.exp([own.score([B], [[v]])[0][0] for v in range(5)])
        law[EOS, 0] = first[EOS]  # the text ends
        for v in range(EOS):
            law[v] = first[v] * np.exp([own.score([B], [[v, w]])[0][1] for w in range(5)])
        counts = np.zeros((5, 5))
        np.add.at(counts, (got.tokens[:, 0], np.where(got.lengths > 1, got.tokens[:, 1], 0)), 1)
        assert_law(counts, law)


def test_one_seed_fixes_the_texts_whatever_the_batches(server):
    texts = [
        write(remote(server, batch_size=size, max_concurrency=most), (A, B), 8).tokens.tolist()
        for size, most in ((1, 1), (3, 4), (64, 64))
    ]
    assert texts[0] == texts[1] == texts[2]
    bodies = [body for body in server.asked if body.get("n", 1) > 2]
    assert {body["n"] for body in bodies} == {3, 8}


def test_greedy_texts_are_asked_for_together(server):
    got = write(remote(server), (A, B), 3, law=Law(Sampling(0.0)))
    assert len(server.asked[-1]["prompt"]) == 6
    assert got.tokens[0].tolist() == got.tokens[2].tolist()
    assert (got.log_base == 0).all()


def test_copies_are_asked_for_one_by_one_where_children_share_a_seed(server, monkeypatch):
    """Some servers give every child of a request the same seed: copies would be one text."""
    post = Server.post

    def same(self, path, body):
        answer = post(self, path, {**body, "n": 1})
        choice = answer["choices"][0]
        return {**answer, "choices": [{**choice, "index": k} for k in range(body.get("n", 1))]}

    together = write(remote(server)).tokens.tolist()
    monkeypatch.setattr(Server, "post", same)
    assert write(remote(server)).tokens.tolist() == together


# ---- what is counted and sent ----


def test_costs(server):
    meter = Meter()
    got = write(remote(server), (A, B), 4, meter=meter)
    assert meter.read().tokens_prefilled == 4
    assert meter.read().tokens_generated == got.lengths.sum()
    server.cached, meter = 1, Meter()
    write(remote(server, batch_size=64), (B,), 4, meter=meter)
    assert meter.read().tokens_prefilled == 2


def test_server_settings_do_not_change_the_law(server):
    write(remote(server))
    body = server.asked[-1]
    assert body["repetition_penalty"] == 1.0
    assert body["top_k"] == 0
    assert body["min_p"] == 0
    assert body["add_special_tokens"] is False
    assert EOS in body["stop_token_ids"]


def test_raw_log_probabilities_are_found_out():
    with serving(Server(toy(1), raw=True)) as server:
        engine = remote(server)
        write(engine)
        with pytest.raises(InvalidArgument, match="--logprobs-mode processed_logprobs"):
            write(engine, law=Law(Sampling(0.5)))
        count = len(server.asked)
        with pytest.raises(InvalidArgument, match="processed_logprobs"):
            write(engine, law=Law(Sampling(top_k=2)))
        assert len(server.asked) == count  # asked once


def test_another_tokenizer_is_refused(server):
    server.tokenizer = tiny.tokenizer("ba.\n")
    with pytest.raises(InvalidArgument, match="tokenizer.*served model"):
        write(remote(server))


def test_models_and_lengths(server):
    assert remote(server).name == "toy"
    assert remote(server).max_length == 64
    assert remote(server, max_length=9).max_length == 9
    assert Remote(server.url + "/v1/", "toy", tiny.tokenizer()).name == "toy"
    with pytest.raises(InvalidArgument, match="max_length=65.*64"):
        remote(server, max_length=65)
    with pytest.raises(InvalidArgument, match="other.*'toy'"):
        remote(server, model="other")
    server.models = ["one", "two"]
    with pytest.raises(InvalidArgument, match="'one', 'two'"):
        remote(server)
    assert remote(server, model="two").name == "two"
    with pytest.raises(InvalidArgument, match="eos_ids"):
        remote(server, model="two", eos_ids=[77])
    with pytest.raises(InvalidArgument, match="at most max_length"):
        write(remote(server, model="two", max_length=2), (B,))
    for name, value in {"timeout": 0, "retries": -1, "max_concurrency": 0, "batch_size": 0}.items():
        with pytest.raises(InvalidArgument, match=name):
            remote(server, model="two", **{name: value})
    for url in ("localhost:8000", "ftp://x", "http://"):
        with pytest.raises(InvalidArgument, match="base_url"):
            Remote(url, tokenizer=tiny.tokenizer())


def test_inside_a_running_event_loop(server):
    """A notebook's, say."""
    import asyncio

    async def cell():
        return write(remote(server)).lengths

    assert len(asyncio.run(cell())) == 4


def test_inside_a_steered_run_that_fails_the_run_so_far_is_kept(server, quick):
    engine = remote(server)
    write(engine)
    server.spoil = lambda answer: (
        answer if len(server.asked) < 30 else {**answer, "choices": [{"index": 0}]}
    )
    with pytest.raises(EngineError) as caught:
        smc(TextModel(engine, "a", None, 1, 60, 60), 0, 16)
    assert caught.value.result is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retries": "3"}, "retries='3' is not allowed: expected an integer >= 0"),
        ({"retries": True}, "retries=True"),
        ({"timeout": "3"}, "timeout='3' is not allowed: expected seconds > 0"),
        ({"timeout": float("nan")}, "timeout=nan"),
        ({"max_concurrency": 2.0}, "max_concurrency=2.0"),
        ({"batch_size": "8"}, "batch_size='8' is not allowed: expected an integer >= 1"),
        ({"max_length": "9"}, "max_length='9' is not allowed"),
        ({"api_key": 31415}, "api_key='***' is not allowed: expected None or a string, not of"),
        ({"api_key": [KEY]}, "not of type list"),
    ],
)
def test_arguments_of_a_wrong_type(server, options, message, unchecked):
    with pytest.raises(InvalidArgument) as caught:
        remote(server, **options)
    assert message in str(caught.value)
    assert "31415" not in str(caught.value)
    assert KEY not in str(caught.value)


def test_without_httpx(monkeypatch):
    monkeypatch.setitem(sys.modules, "httpx", None)
    with pytest.raises(MissingExtra, match=r"smcgen\[remote\]"):
        Remote("http://127.0.0.1:9", tokenizer=tiny.tokenizer())


# ---- faults ----


def test_a_failure_that_passes_is_tried_again_alone(server, quick):
    engine = remote(server, batch_size=1, max_concurrency=1)
    want = write(engine).tokens.tolist()
    asked = len(server.asked)
    server.faults = [None, (500, b'{"error": {"message": "oops"}}', {}), (503, b"", {}), None]
    assert write(engine).tokens.tolist() == want
    assert len(server.asked) == asked + 4 + 2
    assert len(quick) == 2


def test_retry_after_is_honoured(server, quick):
    engine = remote(server)
    write(engine)
    server.faults = [(429, b"slow down", {"Retry-After": "7"})]
    write(engine)
    assert quick == [7.0]
    server.faults = [(429, b"", {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"})]
    write(engine)
    assert quick[1] < 1
    server.faults = [(429, b"", {"Retry-After": "100000"})]
    write(engine)
    assert quick[2] == 60.0


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ((500, b'{"error": {"message": "no memory"}}', {}), "500.*no memory.*3 attempts"),
        ((400, b'{"error": {"message": "bad top_k"}}', {}), "400.*bad top_k"),
        ((401, b'{"error": "wrong key"}', {}), "401.*wrong key.*SMCGEN_REMOTE_API_KEY"),
        ((302, b"", {"Location": "http://127.0.0.1:9/"}), "302"),
        ((200, b'{"choices": [', {}), "not JSON"),
        ((200, b"", {}), "not JSON"),
        ((200, b"[" * 100_000, {}), "not JSON"),
        ((200, b"[]", {}), "without completions"),
        ((200, b'{"choices": null}', {}), "without completions"),
        ((200, b'{"choices": [{"index": 0}, {"index": 1}]}', {}), "4 were asked for|1 were asked"),
        ((200, b'{"choices": [{"index": 5}]}', {}), "were asked for"),
        (
            (200, b'{"choices": [%s]}' % b", ".join(b'{"index": %d}' % k for k in range(4)), {}),
            "no token ids",
        ),
        (
            (
                200,
                b'{"choices": [%s]}'
                % b", ".join(b'{"index": %d, "prompt_token_ids": [4, 0]}' % k for k in range(4)),
                {},
            ),
            r"was sent 1 tokens .* and read 2 that begin \[4, 0\]",
        ),
    ],
)
def test_a_failure_that_stays_is_one_clear_error(server, quick, fault, message):
    engine = remote(server, batch_size=4)
    write(engine)
    server.faults = [fault] * 3
    with pytest.raises(SmcgenError, match=message):
        write(engine)


def test_a_key_that_an_answer_repeats_is_not_shown(server, quick):
    """Nor is half of it, where a long answer is cut."""
    key = "sk-secret-" + 60 * "x"
    for before in range(0, 300, 50):
        engine = remote(server, api_key=key)
        write(engine)
        said = json.dumps({"choices": None, "error": before * "-" + f"no {key}"}).encode()
        server.faults = [(200, said, {})]
        with pytest.raises(EngineError, match="without completions") as caught:
            write(engine)
        assert "sk-" not in str(caught.value)
        assert len(str(caught.value)) <= 303


def test_an_answer_without_end_is_cut_off(server, monkeypatch):
    engine = remote(server)
    write(engine)
    monkeypatch.setattr("smcgen.text._http._MOST_BYTES", 1000)
    server.faults = [(200, b" " * 5000, {})]
    with pytest.raises(ServerError, match="more than 1000 bytes"):
        write(engine)


def test_a_server_that_hangs(server, quick):
    engine = remote(server)
    write(engine)
    slow = remote(server, timeout=0.2, retries=1)
    slow.__dict__["_probe"] = engine._probe
    gone = threading.Event()
    server.faults = [gone.wait] * 2
    with pytest.raises(ServerError, match=r"no answer within 0\.2 s.*timeout=.*2 attempts"):
        write(slow)
    gone.set()


def test_connection_refused_and_lost(server, quick):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ServerError, match="no connection"):
        Remote(f"http://127.0.0.1:{port}", tokenizer=tiny.tokenizer(), retries=1)
    engine = remote(server)
    write(engine)
    server.faults = [(200, b"{}", {"Content-Length": "100", "Connection": "close"})]
    assert write(engine).lengths.sum() > 0  # half an answer is asked for again
    engine.close()
    with pytest.raises(ServerError, match="closed"):
        write(engine)


def test_no_more_requests_at_a_time_than_allowed(server):
    engine = remote(server, batch_size=1, max_concurrency=3)
    write(engine, n=2)
    server.most = 0
    server.faults = [lambda: time.sleep(0.02)] * 20
    write(engine, n=20)
    assert 1 < server.most <= 3


@pytest.mark.slow
def test_an_interrupt_stops_what_is_under_way(server):
    engine = remote(server, batch_size=1, max_concurrency=2)
    write(engine)
    gone, asked = threading.Event(), len(server.asked)

    def interrupted() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        gone.wait(10)

    server.faults = [interrupted, lambda: gone.wait(10) and None]
    before = signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # servers take it for themselves
    try:
        with pytest.raises(KeyboardInterrupt):
            write(engine, n=16)
    finally:
        signal.signal(signal.SIGINT, before)
    gone.set()
    assert len(server.asked) <= asked + 2  # what had not begun never does
    server.faults = []
    assert write(engine).lengths.sum() > 0  # and the engine is still good


@pytest.mark.slow
def test_an_interrupt_reaches_runs_in_threads(server):
    engine = remote(server)
    write(engine)
    gone, waited = threading.Event(), []

    def hang(kill: bool = False) -> None:
        if kill:
            os.kill(os.getpid(), signal.SIGINT)
        waited.append(not gone.wait(10))

    server.faults = [hang, lambda: hang(kill=True)]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SMCInterrupted) as caught:
            smcgen.steer(["a", "b"], model=engine, n_particles=2, max_tokens=4)
    finally:
        signal.signal(signal.SIGINT, before)
    gone.set()
    assert not any(waited)  # nobody waited for the server
    assert len(caught.value.result) == 2


def test_the_key_is_sent_and_never_shown(server, quick, caplog, monkeypatch):
    caplog.set_level(logging.DEBUG)
    engine = remote(server, api_key=KEY)
    write(engine)
    assert set(server.keys) == {f"Bearer {KEY}"}
    shown = [repr(engine), repr(engine._client), str(vars(engine._client)), str(vars(engine))]
    body = b'{"error": {"message": "Incorrect API key provided: %s"}}' % KEY.encode()
    for status, text in ((401, body), (500, KEY.encode() * 20), (200, b"x" * 290 + KEY.encode())):
        server.faults = [(status, text, {})] * 3
        with pytest.raises(ServerError) as caught:
            write(engine)
        shown += [str(caught.value), repr(caught.value), repr(caught.value.__context__)]
    server.faults = []
    shown.append(TextModel(engine, "a").fingerprint())
    shown += [record.getMessage() for record in caplog.records]
    del shown[2]  # its own dict, where it has to be
    assert not any(KEY[:12] in text for text in shown)
    with pytest.raises(InvalidArgument) as caught:
        remote(server, api_key=KEY + "\n")
    assert KEY not in str(caught.value)
    with pytest.raises(InvalidArgument) as caught:
        Remote(server.url.replace("//", f"//user:{KEY}@"), tokenizer=tiny.tokenizer())
    assert KEY not in str(caught.value)
    monkeypatch.setenv("SMCGEN_API_KEY", "of-our-own-clients")
    monkeypatch.setenv("SMCGEN_REMOTE_API_KEY", "from-the-environment")
    remote(server)
    Client(server.url).post("/v1/completions", [server.asked[0]])
    assert server.keys[-1] == "Bearer from-the-environment"


def test_closing_ends_what_is_under_way():
    import socket
    import threading

    from smcgen.text._http import Client, ServerError

    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = Client(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=100, retries=0)
        errors = []

        def ask():
            try:
                client.get("/v1/models")
            except ServerError as error:
                errors.append(str(error))

        thread = threading.Thread(target=ask)
        thread.start()
        connection = silent.accept()[0]
        with connection:
            connection.recv(1)
            client.close()
            thread.join(30)
        assert not thread.is_alive()
    assert "closed" in errors[0]


def test_an_answer_that_is_garbled_on_its_way_is_asked_for_again():
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n"
    answers = [head + b"Content-Encoding: gzip\r\n\r\nno", head + b"\r\n{}"]

    def serve():
        for answer in answers:
            with listening.accept()[0] as connection:
                connection.recv(1 << 16)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        client = Client(f"http://127.0.0.1:{listening.getsockname()[1]}", backoff=0.01)
        assert client.post("/", [{}]) == [{}]
