"""Arguments as JSON: messages name arguments and places, and hold no value."""

import json

import pytest
from typer.testing import CliRunner

from smcgen.cli import app
from smcgen.errors import InvalidArgument
from smcgen.shipped import shipped
from smcgen.text._arguments import json_object, made
from tests.text import vllm_tiny

KEY = "sk-secret-123"
ADDRESS = "http://127.0.0.1:9"


def run(command, engine, options, model=str(shipped("tape-policy"))):
    """`smcgen COMMAND` with these arguments for the engine; it must end in one line without the key."""
    arguments = {
        "serve": ["serve", model],
        "steer": ["steer", "--model", model, "--prompt", "Q:1+1"],
    }[command]
    text = options if isinstance(options, str) else json.dumps(options)
    done = CliRunner().invoke(app, [*arguments, "--engine", engine, "--engine-args", text])
    assert done.exit_code == 2, done.output
    assert len(done.stderr.strip().splitlines()) == 1
    assert KEY not in done.output
    return done.stderr


@pytest.mark.parametrize("command", ["serve", "steer"])
@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            f'{{"api_key": "{KEY}", "tokenizer": "x"',
            "at line 1, column 46: Expecting ',' delimiter",
        ),
        (f'{{"api_key": "{KEY}}}', "at line 1, column 13: Unterminated string"),
        (f'{{"api_key": "{KEY}\\q"}}', "at line 1, column 27: Invalid \\escape"),
        (f'["{KEY}"]', "not a list"),
        (f'"{KEY}"', "not a str"),
        ("[" * 100_000, "less deep"),
    ],
)
def test_what_is_no_json_is_not_shown(command, text, words):
    said = run(command, "remote", text, ADDRESS)
    assert "engine_args='...' is not allowed: expected a JSON object" in said
    assert words in said


def test_nothing_that_is_raised_holds_the_text():
    with pytest.raises(InvalidArgument) as caught:
        json_object("engine_args", f'{{"api_key": "{KEY}"')
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert KEY not in repr(caught.value.args) + repr(vars(caught.value))


@pytest.mark.parametrize(
    ("engine", "options", "words"),
    [
        (
            "remote",
            {"foo": 1, "api_key": KEY},
            "='foo' is not allowed: expected an argument of Rem",
        ),
        ("remote", {"base_url": ADDRESS}, "'base_url' is not allowed"),
        ("remote", {"retries": "3", "api_key": KEY}, "retries='3'"),
        ("transformers", {"device": "nonsense"}, "['device'] is not allowed"),
        ("transformers", {"no_such_argument": 1}, "'no_such_argument' is not allowed"),
        ("transformers", {"max_length": "3"}, "['max_length'] is not allowed"),
    ],
)
def test_what_is_wrong_with_an_argument_is_one_line(engine, options, words, unchecked):
    said = run("serve", engine, options, *([ADDRESS] if engine == "remote" else []))
    assert words in said
    assert "__init__" not in said


def test_a_device_that_is_not_there(unchecked):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert "['device'] is not allowed" in run("serve", "transformers", {"device": "cuda"})


@vllm_tiny.needs_vllm
@pytest.mark.filterwarnings("ignore")
@pytest.mark.slow
def test_an_argument_that_vllm_does_not_have(unchecked):
    said = run("serve", "vllm", {"foo": 1}, str(vllm_tiny.folder()))
    assert "foo=1 is not allowed: expected an engine argument of vLLM's" in said
    assert "__init__" not in said
    said = run("serve", "vllm", {"api_key": KEY}, str(vllm_tiny.folder()))
    assert "api_key='***' is not allowed" in said


def test_a_message_that_repeats_a_key_does_not_show_it():
    def make(first, token):
        raise RuntimeError(f"{first}: bad header {token}")

    with pytest.raises(InvalidArgument, match=r"\['token'\].*make.*RuntimeError: m: bad header \*"):
        made("engine_args", make, "m", {"token": KEY})


def test_a_failure_that_no_argument_is_to_blame_for_stays_what_it_is():
    def make(first):
        raise RuntimeError("no")

    with pytest.raises(RuntimeError, match="^no$"):
        made("engine_args", make, "m", {})
