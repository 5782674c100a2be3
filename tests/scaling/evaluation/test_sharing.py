"""Strategies that choose among the same texts: written once, recorded as if each had written its own."""

import threading
from dataclasses import dataclass, replace
from typing import ClassVar

import pytest

from smcgen import scaling
from smcgen.errors import InvalidArgument
from smcgen.scaling.evaluation import Problem, Task, evaluate
from smcgen.scaling.writing import Writing
from smcgen.text.rewards import FunctionReward
from tests.text.toy import ToyEngine

pytestmark = pytest.mark.slow  # compiling, mostly
WRITING = Writing(step=1, max_tokens=3, answer="([ab])")
TASK = Task("toy", [Problem(f"p{i}", prompt, "a") for i, prompt in enumerate(("a", "b", "ab"))])
REWARD = FunctionReward(lambda texts: [0.9 if "a" in t else 0.2 for t in texts], probability=True)
ALONE = ["sample", "majority", "rpc"]
SCORED = ["best-of-n", "weighted-best-of-n", "best-of-majority"]


class Counting(ToyEngine):
    """An engine that counts the populations it is asked for."""

    opened = 0

    def open(self, *args, **options):
        self.opened += 1
        return super().open(*args, **options)


def run(strategies, engine=None, reward=REWARD, budget=3, **options):
    return evaluate(
        *(TASK, strategies, engine or Counting(), reward, budget), writing=WRITING, **options
    )


def counted(records):
    """What does not depend on the clock."""
    clock = {"seconds": 0, "reward_seconds": 0, "peak_memory": 0, "peak_gpu_memory": 0}
    return {r.key: replace(r, cost={**r.cost, **clock}) for r in records}


def test_texts_are_written_once_and_recorded_for_each():
    engine = Counting()
    shared = counted(run(ALONE + SCORED, engine))
    assert engine.opened == 2
    separate = {}
    for name in ALONE + SCORED:
        separate |= counted(run([name]))
    assert shared == separate
    assert len(shared) == 6 * len(TASK)


def test_what_is_recorded_already_is_not_recorded_again(tmp_path):
    run(["sample"], out=tmp_path)
    engine = Counting()
    assert counted(run(ALONE, engine, out=tmp_path)) == counted(run(ALONE))
    assert engine.opened == 1
    assert len((tmp_path / "records.jsonl").read_text().splitlines()) == 3 * len(TASK)


def test_a_problem_that_fails_fails_for_each_and_counts_once():
    def fails(prompts, texts):
        if "b" in prompts:
            raise ValueError("not this one")
        return [0.5] * len(texts)

    reward = FunctionReward(fails, probability=True, prompts=True)
    results = run(SCORED, reward=reward, patience=2)
    failed = [r for r in results if r.error is not None]
    assert [r.strategy for r in failed] == SCORED
    assert all(r.problem == "p1" and "not this one" in r.error for r in failed)


@dataclass(frozen=True, kw_only=True)
class Stronger(scaling.BestOfN):
    """Other texts, perhaps: nobody can tell from its options."""

    name: ClassVar[str] = "stronger"

    def potential(self, job):
        return None


def test_strategies_that_differ_do_not_share():
    for two in (
        {"one": scaling.BestOfN(), "other": scaling.BestOfN(strength=2.0)},
        {"one": scaling.BestOfN(), "other": Stronger()},
        {"one": scaling.ParticleFilter(), "other": scaling.ParticleFilter(ess_threshold=1.0)},
    ):
        engine = Counting()
        run(two, engine)
        assert engine.opened == 2
    engine = Counting()  # another selection of the same texts
    run([scaling.ParticleFilter(), scaling.ParticleFilter(selection="majority")], engine)
    assert engine.opened == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"retries": -1}, "retries=-1"),
        ({"patience": 0}, "patience=0"),
        ({"reward_timeout": 0.0}, "reward_timeout=0.0"),
    ],
)
def test_limits_that_cannot_be(options, named):
    with pytest.raises(InvalidArgument, match=named):
        run(["sample"], **options)


def test_a_reward_that_hangs_on_one_problem_harms_no_other():
    def hangs(prompts, texts):
        if "b" in prompts:
            never.wait(20)
        return [0.5] * len(texts)

    never = threading.Event()
    reward = FunctionReward(hangs, probability=True, prompts=True)
    try:
        results = run(["best-of-n"], reward=reward, reward_timeout=0.3)
    finally:
        never.set()
    by_problem = {r.problem: r for r in results}
    assert "did not answer within 0.3 s" in by_problem["p1"].error
    assert by_problem["p1"].attempts == 2
    assert by_problem["p0"].error is by_problem["p2"].error is None
