"""No problem waits for another one: on the real engine, a quick one ends while a slow one is in its first step."""

import threading

import pytest

from smcgen.core.each import smc_each
from smcgen.text import FunctionReward, TextModel
from smcgen.text.potentials.algebra import where
from tests.text import vllm_tiny
from tests.text.vllm_tiny import assert_same

pytestmark = [vllm_tiny.needs_vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


def run(engine, slow, **options):
    """Two problems as `steer` runs them, the first of which has a reward of its own."""
    quick = FunctionReward(lambda texts: [0.0] * len(texts))
    reward = where(lambda prompt: prompt == "a\n", FunctionReward(slow), quick)
    model = TextModel(engine, ["a\n", "ab"], reward, 1, max_tokens=12)
    return smc_each(model.split(), 4, 6, keep="particles", **options)


def tilt(texts):
    return [0.2 * t.count("a") for t in texts]


@pytest.mark.parametrize("at", [1, 4])
def test_a_quick_problem_ends_while_a_slow_one_scores(at):
    """With a barrier anywhere between the two, the slow one's wait would end as a failure."""
    ended, calls, seen = threading.Event(), [], []

    def slow(texts):
        calls.append(1)
        if len(calls) == at:
            assert ended.wait(60), "the other problem waits for this one"
        return tilt(texts)

    def watch(b, told):
        seen.append((b, told.t))
        if b == 1 and told.t == last:
            ended.set()

    plain = run(vllm_tiny.twin(), tilt, workers=1)
    last = plain[1].num_steps
    assert last > 6
    results = run(vllm_tiny.engine(), slow, callback=watch)
    order = seen[: seen.index((1, last))]
    assert max([t for b, t in order if b == 0], default=0) <= at
    for ours, theirs in zip(results, plain, strict=True):
        assert_same(ours, theirs)
