"""Strategies on vLLM, each prompt at its own pace: what they give on transformers, where all move together."""

import jax
import numpy as np
import pytest

from smcgen import scaling
from smcgen.text.rewards import FunctionReward
from tests.text import vllm_tiny

WRITING = scaling.Writing(step=2, max_steps=3, max_tokens=6, answer=r"([a-z])")
PROMPTS, N = ["ab", "a", "cde f"], 4


def liked(prompts, texts):
    """It looks at the prompt, so that none is spared a call by what was asked for another."""
    return [(1.0 + t.count("a")) / (2.0 + t.count("a") + t.count(".")) for t in texts]


REWARD = FunctionReward(liked, probability=True, prompts=True)


@pytest.mark.slow
@vllm_tiny.needs_vllm
@pytest.mark.parametrize("name", sorted(scaling.STRATEGIES))
def test_a_strategy_gives_what_it_gives_on_transformers(name):
    keys = jax.random.split(jax.random.key(3), len(PROMPTS))
    run = lambda engine: scaling.as_strategy(name).run(
        engine, PROMPTS, REWARD, N, key=keys, writing=WRITING
    )
    own, together = run(vllm_tiny.engine()), run(vllm_tiny.twin())
    for one, other in zip(own, together, strict=True):
        assert one.texts == other.texts
        assert one.finish.tolist() == other.finish.tolist()
        assert one.ranking.tolist() == other.ranking.tolist()
        np.testing.assert_allclose(one.weights, other.weights, atol=1e-3)
        assert one.status is other.status
        assert one.cost.tokens_generated == other.cost.tokens_generated > 0
    calls = lambda outcomes: sum(o.cost.reward_calls for o in outcomes)
    assert calls(own) == calls(together)  # a batch's are divided by what each prompt asked
