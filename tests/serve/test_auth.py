"""Who may ask, and how a server may be exposed."""

import httpx
import openai
import pytest
from typer.testing import CliRunner

from smcgen.cli import app
from smcgen.errors import InvalidArgument
from smcgen.serve.auth import is_loopback
from smcgen.shipped import shipped
from tests.serve import running

KEY = "a-key-of-some-length"


@pytest.fixture(scope="module")
def locked():
    settings = running.config(engine=running.chatty(), api_key=KEY)
    with running.serving(settings) as server:
        yield server


def test_the_key_opens(locked):
    assert running.client(locked, api_key=KEY).models.list().data


@pytest.mark.parametrize("key", ["wrong", KEY[:-1], KEY + "x", KEY.upper()])
def test_another_key_does_not(locked, key):
    with pytest.raises(openai.AuthenticationError) as raised:
        running.client(locked, api_key=key).models.list()
    assert raised.value.code == "invalid_api_key"
    assert key not in str(raised.value)


@pytest.mark.parametrize("header", ["", KEY, f"Basic {KEY}", "Bearer", "Bearer é"])
def test_other_headers_do_not(locked, header):
    headers = {"authorization": header.encode("latin-1")}
    for method, path in (
        ("GET", "/metrics"),
        ("GET", "/v1/models"),
        ("POST", "/v1/completions"),
        ("POST", "/v1/chat/completions"),
    ):
        got = httpx.request(method, running.url(locked) + path, headers=headers)
        assert got.status_code == 401
        assert got.headers["www-authenticate"] == "Bearer"
        assert set(got.json()["error"]) == {"message", "type", "param", "code"}


def test_health_needs_no_key(locked):
    assert httpx.get(running.url(locked) + "/health").status_code == 200


def test_the_key_is_not_shown(locked):
    settings = locked.service.config
    assert KEY not in repr(settings)
    assert KEY not in str(vars(locked.config))


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("localhost", True),
        ("LOCALHOST", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.evil.com", False),
        ("", False),
    ],
)
def test_loopback(host, local):
    assert is_loopback(host) == local


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "example.com"])
def test_others_need_a_key(host):
    with pytest.raises(InvalidArgument, match="without an API key; set SMCGEN_API_KEY"):
        running.config(engine=running.chatty(), host=host)
    running.config(engine=running.chatty(), host=host, api_key=KEY)


@pytest.mark.parametrize("key", ["", " ", "é", "a\nb"])
def test_keys_that_cannot_be_sent(key):
    with pytest.raises(InvalidArgument, match="printable ASCII") as raised:
        running.config(engine=running.chatty(), api_key=key)
    assert "é" not in str(raised.value)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "["])
def test_without_a_key_only_this_machine_is_served(chat, host):
    """A page whose name was made to point to this machine (DNS rebinding) sends its own name."""
    url = running.url(chat)
    assert httpx.get(f"{url}/v1/models", headers={"host": host}).status_code == 403
    assert httpx.get(f"{url}/v1/models", headers={"host": "localhost:1"}).status_code == 200


def test_no_page_may_read(chat):
    headers = {"origin": "http://evil.example", "access-control-request-method": "POST"}
    got = httpx.options(running.url(chat) + "/v1/completions", headers=headers)
    assert got.status_code == 405
    assert not [name for name in got.headers if name.startswith("access-control")]


def run(*arguments, **options):
    command = ["serve", str(shipped("tape-policy")), "--port", "0"]
    return CliRunner().invoke(app, [*command, *arguments], **options)


def test_the_command_refuses_in_one_line():
    done = run("--host", "0.0.0.0", env={"SMCGEN_API_KEY": None})
    assert done.exit_code == 2
    assert "host='0.0.0.0' is not allowed" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--engine", "llama.cpp"], "expected one of 'remote', 'transformers', 'vllm'"),
        (["--strategy", "beam"], "strategy='beam'"),
        (["--strategy", "best-of-n"], "without --reward"),
        (["--max-particles", "3"], "at most max_particles=3"),
    ],
)
def test_the_command_names_what_is_wrong(arguments, words):
    done = run(*arguments)
    assert done.exit_code == 2
    assert words in done.stderr


def test_the_command_starts_a_server(monkeypatch):
    from smcgen.serve import server

    started = []
    monkeypatch.setattr(server, "run_server", lambda config, sockets: started.append(config))
    done = run("-n", "2", "--step", "5", "--host", "0.0.0.0", env={"SMCGEN_API_KEY": KEY})
    assert done.exit_code == 0, done.output
    assert KEY not in done.output
    (settings,) = started
    assert (settings.model, settings.strategy, settings.step) == ("tape-policy", "sample", 5)
    assert (settings.n_particles, settings.api_key) == (2, KEY)
