"""What a server refuses, with one sentence that names the field, what came and what is allowed."""

import httpx
import pytest

from smcgen.errors import InvalidArgument, UnknownName
from smcgen.text import FunctionReward
from tests.serve import running

HELLO = [{"role": "user", "content": "ab."}]


def post(server, path="/v1/chat/completions", **options):
    return httpx.post(running.url(server) + path, timeout=60, **options)


def refused(got, status, *words):
    assert got.status_code == status, got.text
    error = got.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    for word in words:
        assert word in error["message"]
    return error


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"model": None}, "model", "string"),
        ({"messages": []}, "messages", "at least 1"),
        ({"messages": "ab"}, "messages", "array"),
        ({"messages": [{"role": "robot", "content": "a"}]}, "messages.0.role", "'system'"),
        ({"messages": [{"role": "user"}]}, "messages.0.content", "missing"),
        ({"messages": [{"role": "system", "content": "a"}]}, "messages", "no system"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages", "at least one token"),
        ({"messages": [{"role": "user", "content": "a" * 200}]}, "messages", "fewer than"),
        ({"n_particles": 0}, "n_particles", "greater than or equal to 1"),
        ({"n_particles": 9}, "n_particles", "at most 8 on this server"),
        ({"n_particles": 2.5}, "n_particles", "integer"),
        ({"n_particle": 2}, "n_particle", "not a known field"),
        ({"max_tokens": 13}, "max_tokens", "at most 12 on this server"),
        ({"max_tokens": True}, "max_tokens", "integer"),
        ({"budget": 5}, "budget", "at least max_tokens=12"),
        ({"budget": 50, "n_particles": 2}, "budget", "either"),
        ({"n": 5}, "n", "at most n_particles=4"),
        ({"n": 9, "strategy": "sample"}, "n", "at most 8"),
        ({"temperature": -0.1}, "temperature", "greater than or equal to 0"),
        ({"top_p": 0}, "top_p", "greater than 0"),
        ({"top_k": 0}, "top_k", "greater than or equal to 1"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"seed": 2**32}, "seed", "less than 4294967296"),
        ({"ess_threshold": 2}, "ess_threshold", "less than or equal to 1"),
        ({"ess_threshold": 0.333}, "ess_threshold", "a multiple of 0.05"),
        ({"step": "x" * 9}, "step", "a number of tokens, or one of"),
        ({"step": 0}, "step", "not allowed"),
        ({"strategy": "beam"}, "strategy", "'best-of-n', 'dvts', 'first-finish'"),
        ({"strategy": "majority"}, "strategy", "without --answer"),
        ({"strategy": "sample", "n_particles": 4}, "n_particles", "no n_particles with"),
        ({"strategy": "best-of-n", "ess_threshold": 1}, "ess_threshold", "no ess_threshold with"),
        ({"logprobs": True}, "logprobs", "not supported"),
        ({"top_logprobs": 3}, "top_logprobs", "not supported"),
        ({"stop": ["a", "b", ".", "c", "d"]}, "stop", "at most 4, of 1 to 256"),
        ({"stop": ["a", ""]}, "stop", "1 to 256 characters"),
        ({"stop": "a" * 257}, "stop", "1 to 256 characters"),
        ({"tools": [{"type": "function"}]}, "tools", "not supported"),
        ({"response_format": {"type": "json_object"}}, "response_format", "not supported"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_fields(chat, fields, param, words, stream):
    body = {"model": "m", "messages": HELLO, "stream": stream} | fields
    error = refused(post(chat, json=body), 400, words)
    assert error["param"] == param
    assert error["type"] == "invalid_request_error"


def test_a_chat_with_a_model_that_has_no_template_is_sent_elsewhere(tape):
    got = post(tape, json={"model": "tape", "messages": HELLO})
    error = refused(got, 400, "messages: ", "no chat template; send text to /v1/completions")
    assert error["param"] == "messages"


def test_numbers_that_json_lacks(chat):
    text = '{"model": "m", "messages": [{"role": "user", "content": "a"}], "strength": NaN}'
    got = post(chat, content=text, headers={"content-type": "application/json"})
    assert refused(got, 400, "strength", "finite")["param"] == "strength"


def test_another_model_is_not_found(chat):
    got = post(chat, json={"model": "gpt", "messages": HELLO})
    assert refused(got, 404, "model='gpt'", "'m'")["code"] == "model_not_found"


@pytest.mark.parametrize("prompt", ["", [], ["a", "b"], [[1], [2]], [True], [1.5], [999], {}])
def test_prompts(chat, prompt):
    got = post(chat, "/v1/completions", json={"model": "m", "prompt": prompt})
    assert refused(got, 400, "prompt")["param"] == "prompt"


@pytest.mark.parametrize("prompt", ["ab.", ["ab."], [0, 1, 2], [[0, 1, 2]]])
def test_a_prompt_can_be_text_or_ids(chat, prompt):
    body = {"model": "m", "prompt": prompt, "seed": 1, "logprobs": None, "user": "u", "stop": None}
    got = post(chat, "/v1/completions", json=body).json()
    want = post(chat, "/v1/completions", json=body | {"prompt": "ab."}).json()
    assert got["choices"] == want["choices"]


@pytest.mark.parametrize("content", [b"", b"{", b"not json", b"\xff\xfe", b"[" * 500, b"[]", b"1"])
def test_malformed_bodies(chat, content):
    got = post(chat, content=content, headers={"content-type": "application/json"})
    refused(got, 400, "the body")


def test_only_json(chat):
    got = post(chat, content=b"{}", headers={"content-type": "text/plain"})
    refused(got, 415, "text/plain", "application/json")


@pytest.mark.parametrize("chunked", [False, True])
def test_a_long_body(chat, chunked):
    part = b" " * 500
    content = iter([part] * 5) if chunked else part * 5
    got = post(chat, content=content, headers={"content-type": "application/json"})
    refused(got, 413, "at most 2000 bytes")


def test_paths_and_methods(chat):
    refused(httpx.get(running.url(chat) + "/v2/nothing"), 404, "/v2/nothing")
    refused(httpx.get(running.url(chat) + "/v1/models/"), 404, "model=''")
    refused(httpx.get(running.url(chat) + "/v1/completions"), 405, "GET")
    refused(httpx.get(running.url(chat) + "/nothing", headers={"host": "["}), 404, "/nothing")


def test_no_text_is_possible():
    never = FunctionReward(lambda texts: [float("-inf")] * len(texts))
    settings = running.config(engine=running.chatty(), reward=never, step=1, max_tokens=6)
    with running.serving(settings) as server:
        got = post(server, json={"model": "m", "messages": HELLO})
        assert refused(got, 422, "no text is possible")["code"] == "all_weights_zero"
        assert got.json()["smcgen"]["log_evidence"] is None


def test_a_reward_that_fails_keeps_its_secrets():
    def broken(texts):
        raise RuntimeError("secret")

    settings = running.config(engine=running.chatty(), reward=broken, step=1, max_tokens=6)
    with running.serving(settings) as server:
        for _ in range(2):  # the worker lives on
            got = post(server, json={"model": "m", "messages": HELLO})
            error = refused(got, 500, "RewardError")
            assert error["type"] == "server_error"
            assert "secret" not in got.text


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n_particles": 0}, "n_particles=0"),
        ({"n_particles": 100}, "at most max_particles=64"),
        ({"max_concurrent": 0}, "max_concurrent=0"),
        ({"max_queue": -1}, "max_queue=-1"),
        ({"timeout": 0}, "timeout=0"),
        ({"port": 99999}, "port=99999"),
        ({"step": ""}, "step"),
        ({"temperature": -1}, "temperature"),
        ({"strength": 2.0}, "strength=2.0"),
        ({"ess_threshold": 3}, "ess_threshold=3"),
        ({"answer": "("}, "answer"),
        (
            {"strategy": "majority"},
            r"one of 'sample', 'first-finish'.* on a server without --answer",
        ),
        (
            {"strategy": "particle-filter"},
            r"one of 'sample', 'first-finish'.* on a server without --reward",
        ),
    ],
)
def test_settings(options, words, unchecked):
    with pytest.raises(InvalidArgument, match=words):
        running.config(engine=running.chatty(), **options)


def test_an_unknown_strategy_lists_the_known_ones():
    with pytest.raises(UnknownName, match="best-of-n.*majority.*particle-filter.*sample"):
        running.config(engine=running.chatty(), strategy="beam")
