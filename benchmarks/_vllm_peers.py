"""The same number of tokens from its_hub's particle filter and genlm-control's SMC, in turns with ours."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from benchmarks._report import Report, median_and_spread, seconds
from benchmarks._vllm_peer_worker import REWARD
from benchmarks._vllm_sides import ENGINE, GPU, SEEDS, some_prompts, text_of, write_reward
from benchmarks.text_overhead import noise
from smcgen import smc
from smcgen.text import VLLM, FunctionReward, ProcessReward, TextModel

TOKENS = 100
AIM = 1 / 3


def alone(processes: Sequence[int], side: Callable[[], Any]) -> Any:
    """A side, while processes, or groups of them (negative numbers), do not run: waiting takes a part of a core."""
    try:
        for process in processes:
            os.kill(process, signal.SIGSTOP)
        return side()
    finally:
        for process in processes:
            os.kill(process, signal.SIGCONT)


@contextmanager
def server(model: Path, log: Path) -> Iterator[tuple[str, int]]:
    """The address of vLLM's own server on the model, with the options of our engine, and its group of processes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", "small", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--disable-uvicorn-access-log", "--disable-log-stats"]
    for name, value in ENGINE.items():
        command += [f"--{name.replace('_', '-')}", *([] if value is True else [str(value)])]
    env = (
        os.environ | {"VLLM_NO_USAGE_STATS": "1"} | ({} if GPU else {"VLLM_CPU_KVCACHE_SPACE": "1"})
    )
    url = f"http://127.0.0.1:{port}"
    with log.open("wb") as out:
        started = subprocess.Popen(command, stdout=out, stderr=out, env=env, start_new_session=True)
    try:
        until = time.monotonic() + 240
        while True:
            if started.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"vLLM's server does not start: {log.read_text()[-2000:]}")
            try:
                urllib.request.urlopen(url + "/v1/models", timeout=5).close()
                break
            except OSError:
                time.sleep(0.5)
        yield url, started.pid
    finally:
        os.killpg(started.pid, signal.SIGTERM)
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            os.killpg(started.pid, signal.SIGKILL)
            started.wait(20)


@contextmanager
def worker(python: str, log: Path) -> Iterator[tuple[Any, int]]:
    """Asks the peers: a function from a task to an answer; and the group of processes that does."""
    command = [python, str(Path(__file__).with_name("_vllm_peer_worker.py"))]
    env = os.environ | {"OMP_NUM_THREADS": "1"}
    with log.open("w") as out:
        started = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=out,
            env=env,
            text=True,
            start_new_session=True,
        )
    assert started.stdin is not None
    assert started.stdout is not None

    def ask(**task: Any) -> dict[str, Any]:
        assert started.stdin is not None
        assert started.stdout is not None
        print(json.dumps(task), file=started.stdin, flush=True)
        answer = started.stdout.readline()
        return json.loads(answer) if answer else {"error": log.read_text()[-500:]}

    try:
        yield ask, started.pid
    finally:
        started.stdin.close()
        started.wait(60)


def ours(engine: VLLM, n: int, step: int, threshold: float, reward: Any = None) -> dict[str, Any]:
    """Our filter, at step or token level, with all that belongs to it."""
    prompt = some_prompts(1, 70, 2048)[0]
    reward = FunctionReward(noise, on="ids") if reward is None else reward
    model = TextModel(engine, prompt, reward, step, TOKENS // step, TOKENS)
    runs: list[Any] = []
    took = seconds(
        lambda: runs.append(smc(model, jax.random.key(next(SEEDS)), n, ess_threshold=threshold))
    )
    return {"seconds": took, "tokens": runs[0].cost.tokens_generated}


def peer_rows(report: Report, model: Path, python: str | None, full: bool) -> None:
    """Seconds for as many tokens, per peer and number of particles."""
    if python is None:
        print("peers: skipped; --peers or SMCGEN_PEERS names a Python that has them")
        return
    report.row("(below: seconds for 1000 tokens)", "", "", "", "")
    prompt = some_prompts(1, 70, 2048)[0]
    with ExitStack() as stack:
        ask, asker = stack.enter_context(worker(python, model.with_name("worker.log")))
        url, server_group = stack.enter_context(server(model, model.with_name("server.log")))
        engine = stack.enter_context(VLLM(model, **ENGINE))
        judge = write_reward(model.with_name("judge") / REWARD)
        reward = ProcessReward(str(judge))
        hub = {"what": "its_hub", "url": url, "prompt": text_of(prompt)}
        judged = hub | {"at_once": -1, "reward": str(model.with_name("judge")), "options": ENGINE}
        tasks = {
            "its_hub 1.2.0, concurrent": (hub | {"at_once": -1}, (20, 1.0)),
            "its_hub 1.2.0, concurrent, process reward": (judged, (20, 1.0, reward)),
            "its_hub 1.2.0, one at a time": (hub | {"at_once": 1}, (20, 1.0)),
            "genlm-control 0.4.1": (
                {"what": "genlm", "model": str(model), "ids": list(prompt.ids)},
                (1, 0.5),
            ),
        }
        for n in (16, 64):
            for name, (task, settings) in tasks.items():
                slow = task.get("at_once") == 1 or task["what"] == "genlm"
                if not slow or n == 16 or full:
                    repeats = 1 if slow and not full else 3
                    side = partial(
                        alone, (-server_group, -asker), partial(ours, engine, n, *settings)
                    )
                    compare(report, ask, side, f"{name}, n = {n}", task, n, repeats)


def compare(
    report: Report,
    ask: Any,
    side: Callable[[], dict[str, Any]],
    name: str,
    task: dict[str, Any],
    n: int,
    repeats: int,
) -> None:
    """A peer and ours in turns, in seconds for a thousand tokens."""
    first = ask(**task, n=2)  # warm-up
    if "error" in first:
        print(f"{name}: skipped ({first['error']})")
        return
    side()
    pairs = [(ask(**task, n=n), side()) for _ in range(repeats)]
    took = np.array([[1000 * s["seconds"] / s["tokens"] for s in pair] for pair in pairs])
    ratios = took[:, 1] / took[:, 0]
    level = "token level" if task["what"] == "genlm" else "step level"
    backend = first.get("backend", "")
    for who, s, r in (
        (name, took[:, 0], 1 / ratios),
        (f"  ours, {level}, n = {n}", took[:, 1], ratios),
    ):
        report.row(
            who,
            median_and_spread(s),
            median_and_spread(r) if who != name else "1",
            f"{1000 / np.median(s):.0f}",
            backend if who == name else "",
        )
    report.aim(
        "over_" + name.replace(",", "").replace(" = ", "").replace(" ", "_"),
        float(np.median(ratios)),
        AIM,
    )
