"""The server on vLLM: what it answers on transformers, to many clients at once."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from smcgen.text import FunctionReward
from tests.serve import running
from tests.serve.test_life import counted
from tests.text import vllm_tiny

pytestmark = [vllm_tiny.needs_vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
PROMPTS = ["ab", "b.a", "a\n", "...", "bb", "a.b.", "\n\n", "b"] * 2


def answers(engine) -> list[str]:
    reward = FunctionReward(lambda texts: [0.2 * t.count("a") for t in texts])
    settings = running.config(engine=engine, reward=reward, step=2, max_tokens=16, max_concurrent=8)
    with running.serving(settings) as server:
        client = running.client(server, max_retries=8)

        def ask(i: int) -> str:
            return (
                client.completions.create(
                    model="m", prompt=PROMPTS[i], max_tokens=16, extra_body={"seed": i}
                )
                .choices[0]
                .text
            )

        with ThreadPoolExecutor(len(PROMPTS)) as pool:
            return list(pool.map(ask, range(len(PROMPTS))))


def test_every_client_gets_the_answer_it_gets_on_transformers():
    assert answers(vllm_tiny.engine()) == answers(vllm_tiny.twin())


CLIENTS, LIMIT = 64, 24
QUESTIONS = [("ab", 1), ("b.a", 2), ("a\n", 3), ("...", 4), ("bb", 5), ("ab", 6), ("b", 7)]
MALFORMED = [b"{", b'{"model": "m"}', b'{"model": "m", "prompt": "ab", "n_particles": 1000}']


def test_sixty_four_clients_of_the_particle_filter_of_whom_some_leave_and_some_talk_nonsense():
    engine = vllm_tiny.engine()
    reward = FunctionReward(lambda texts: [0.2 * t.count("a") for t in texts])
    settings = running.config(
        engine=engine, reward=reward, step=2, max_tokens=100, max_concurrent=8, max_queue=CLIENTS
    )
    json = {"content-type": "application/json"}
    with running.serving(settings) as server:
        url = f"{running.url(server)}/v1/completions"

        def ask(question):
            prompt, seed = question
            body = {"model": "m", "prompt": prompt, "seed": seed, "max_tokens": LIMIT}
            got = httpx.post(url, json=body, timeout=60)
            assert got.status_code == 200, got.text
            return got.json()

        def leave(i):
            body = {"model": "m", "prompt": "a", "seed": i, "stream": True}
            with httpx.stream("POST", url, json=body, timeout=60) as got:
                assert next(got.iter_text()).startswith(": accepted")
                time.sleep(0.02 * (i % 8))  # in the queue, or in the middle

        def client(i):
            if i % 3 == 0:
                return leave(i)
            if i % 8 == 1:
                got = httpx.post(url, content=MALFORMED[i % len(MALFORMED)], headers=json)
                assert got.status_code == 400
                return None
            return QUESTIONS[i % len(QUESTIONS)], ask(QUESTIONS[i % len(QUESTIONS)])

        alone = {question: ask(question) for question in QUESTIONS}
        with ThreadPoolExecutor(CLIENTS) as pool:
            answers = [a for a in pool.map(client, range(CLIENTS)) if a is not None]
        running.until(lambda: server.service.pool.running + server.service.pool.waiting == 0)
        for question, answer in answers:
            same = ("prompt_tokens", "completion_tokens")
            assert answer["choices"] == alone[question]["choices"]
            assert all(answer["usage"][k] == alone[question]["usage"][k] for k in same)
            for name in ("log_evidence", "ess"):
                want = pytest.approx(alone[question]["smcgen"][name], abs=1e-4)
                assert answer["smcgen"][name] == want
        left = len(range(0, CLIENTS, 3))
        nonsense = sum(i % 3 != 0 and i % 8 == 1 for i in range(CLIENTS))
        assert len(answers) == CLIENTS - left - nonsense

        runs = {
            outcome: counted(
                server, "smcgen_runs_total", outcome=outcome, strategy="particle-filter"
            )
            for outcome in ("ok", "disconnect", "failed", "timeout", "shutdown")
        }
        assert runs["disconnect"] > 0
        assert runs["ok"] + runs["disconnect"] == len(QUESTIONS) + len(answers) + left
        assert runs["failed"] == runs["timeout"] == runs["shutdown"] == 0
        by_code = {
            code: counted(server, "smcgen_requests_total", code=code, path="/v1/completions")
            for code in ("200", "400", "429", "500", "503")
        }
        good = len(QUESTIONS) + len(answers) + left
        assert by_code == {"200": good, "400": nonsense, "429": 0, "500": 0, "503": 0}
        written = sum(
            a["smcgen"]["cost"]["tokens_generated"]
            for a in [*alone.values(), *(answer for _, answer in answers)]
        )
        assert counted(server, "smcgen_tokens_total", kind="generated") >= written
        assert counted(server, "smcgen_running") == counted(server, "smcgen_waiting") == 0
    engine._core.settle()
    assert not engine._core.scheduler.requests
    assert not engine._core._open
    assert not engine._core._where
