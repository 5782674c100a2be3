"""Sixty-four clients at once, each with a question of its own: nothing lost, nothing mixed up."""

from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.serve import running

CLIENTS = 64


@pytest.mark.slow
def test_every_client_gets_its_own_answer():
    settings = running.config(
        **running.tape(), model="tape", max_concurrent=4, max_queue=8, max_tokens=40
    )
    questions = [f"{10 + i}+{99 - i}" for i in range(CLIENTS)]  # the policy repeats its question

    def ask(i):
        # sixty-four wait for thirteen places: most are refused first, and try again
        one = running.client(server, max_retries=60)
        options = {"stream": True, "stream_options": {"include_usage": True}} if i % 2 else {}
        reply = one.completions.create(
            model="tape",
            prompt=f"Q:{questions[i]}\n",
            seed=i,
            temperature=0,
            extra_body={"strategy": "sample"},
            **options,
        )
        if not i % 2:
            return reply.choices[0].text
        return "".join(c.choices[0].text for c in reply if c.choices)

    with running.serving(settings) as server:
        alone = [ask(i) for i in range(0, CLIENTS, 9)]
        with ThreadPoolExecutor(CLIENTS) as clients:
            texts = list(clients.map(ask, range(CLIENTS)))
        metrics = httpx.get(f"{running.url(server)}/metrics").text
    for text, question in zip(texts, questions, strict=True):
        assert text.startswith(f"{question}=")
        assert text.endswith(f"A:{text.partition('=')[2][:2]}")
    assert texts[::9] == alone
    runs = CLIENTS + len(alone)
    assert f'smcgen_runs_total{{outcome="ok",strategy="sample"}} {runs}.0' in metrics
    assert 'code="429"' in metrics
    assert "smcgen_running 0.0" in metrics
    assert "smcgen_waiting 0.0" in metrics
