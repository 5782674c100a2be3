"""A real server in a thread on a free port, and models to serve: the shipped ones, and tiny ones that wait."""

import functools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import openai

from smcgen.serve.config import Config
from smcgen.serve.server import Server
from smcgen.shipped import shipped
from smcgen.text import FunctionReward, ProcessReward, Transformers
from tests.text import tiny

ANSWER = r"A:(\d+)"


@functools.cache
def tape():
    """Engine and process reward that ship with smcgen."""
    reward = ProcessReward(str(shipped("tape-prm-good")))
    return {"engine": Transformers(str(shipped("tape-policy"))), "reward": reward}


@functools.cache
def chatty():
    """A tiny engine with a chat template."""
    tokenizer = tiny.tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('no system') }}"
        "{% endif %}{{ m['content'] }}{% endfor %}"
    )
    return Transformers(tiny.llama(0), tokenizer)


class Gate:
    """A reward that stops each run at its first step until it is opened."""

    def __init__(self):
        self.entered, self.opened = threading.Semaphore(0), threading.Event()

    def __call__(self, texts):
        self.entered.release()
        assert self.opened.wait(60)
        return [0.1 * len(text) for text in texts]

    def wait_for(self, runs):
        for _ in range(runs):
            assert self.entered.acquire(timeout=60)


def gated(**options):
    """A server whose runs wait at a gate."""
    gate = Gate()
    reward = FunctionReward(gate, cache=0)
    defaults = {"n_particles": 4, "step": 1, "max_tokens": 8, "max_concurrent": 1, "max_queue": 1}
    return gate, config(engine=chatty(), reward=reward, **(defaults | options))


def config(**options):
    defaults = {"model": "m", "port": 0, "n_particles": 4, "max_tokens": 64, "grace": 5.0}
    defaults["warm_up"] = False
    return Config(**(defaults | options))


@contextmanager
def serving(settings: Config) -> Iterator[Server]:
    """The server, running; stopped at the end."""
    server = Server(settings, log_level="critical")
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        yield server
    finally:
        server.should_exit = True
        thread.join(60)
        assert not thread.is_alive()


def url(server: Server) -> str:
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    return f"http://{host}:{port}"


def client(server: Server, **options) -> openai.OpenAI:
    defaults = {"api_key": "none", "max_retries": 0, "timeout": 60}
    return openai.OpenAI(base_url=f"{url(server)}/v1", **(defaults | options))


def until(holds, seconds: float = 30) -> None:
    """Wait for a condition."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)
