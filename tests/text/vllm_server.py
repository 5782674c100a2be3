"""Real vLLM in other processes: a server, or an engine core, forked from one process that has imported vLLM.

A process that starts by itself imports torch and vLLM first, fifteen seconds of processor time, and a server is two
such processes. `processes` is a fork server: it imports once, and each server and core is a copy of it.
"""

import functools
import gc
import multiprocessing
import os
import runpy
import signal
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

_IMPORTED = ["vllm.entrypoints.openai.api_server", "vllm.v1.engine.core"]
_IMPORTED += ["vllm.v1.worker.cpu_model_runner", "vllm.v1.worker.cpu_worker"]
_IMPORTED += ["vllm.v1.attention.backends.cpu_attn", "vllm.model_executor.models.llama"]
_ENVIRONMENT = {
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine core is its own worker: a process fewer
    "TORCHDYNAMO_DISABLE": "1",  # seconds of compiling for a comparison and a sum
}


@functools.cache
def processes() -> Any:
    """Processes that have vLLM; also what `vllm.v1.engine.utils.get_mp_context` may be for a time."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    return context


def _serve(arguments: list[str], log: Path) -> None:
    """The server's process: what `python -m vllm.entrypoints.openai.api_server` does."""
    os.setsid()
    with log.open("wb") as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    os.environ.update(_ENVIRONMENT)
    from vllm.v1.engine import utils

    utils.get_mp_context = lambda: multiprocessing.get_context("fork")
    gc.freeze()  # what was imported stays: no need to look through it
    sys.argv = ["api_server", *arguments]
    runpy.run_module("vllm.entrypoints.openai.api_server", run_name="__main__", alter_sys=True)


@contextmanager
def vllm_server(model: Path, log: Path, *options: str) -> Iterator[str]:
    """The address of `vllm.entrypoints.openai.api_server` on a model, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["--model", str(model), "--served-model-name", "tiny", "--dtype", "float32"]
    arguments += ["--host", "127.0.0.1", "--port", str(port), "--max-model-len", "128"]
    arguments += ["--block-size", "32", "--max-num-seqs", "64", "--enforce-eager", *options]
    url = f"http://127.0.0.1:{port}"
    server = processes().Process(target=_serve, args=(arguments, log))
    server.start()
    try:
        for _ in range(400):
            if not server.is_alive():
                pytest.fail(f"the server ended: {log.read_text()[-3000:]}")
            try:
                urllib.request.urlopen(url + "/v1/models", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        else:
            pytest.fail(f"the server does not answer: {log.read_text()[-3000:]}")
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.join(20)
        if server.is_alive():
            os.killpg(server.pid, signal.SIGKILL)
            server.join(20)
