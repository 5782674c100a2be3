"""The server on vLLM: what it answers on transformers, to many clients at once."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from smcgen.text import FunctionReward
from tests.serve import running
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
