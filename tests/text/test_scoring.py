"""Texts that end a step early are scored while others are written, and nothing else changes."""

import threading

import numpy as np
import pytest

from smcgen.core.status import Status
from smcgen.errors import RewardError
from smcgen.text import FunctionReward, Prompt, Regex, Step, Texts, where
from smcgen.text.engines._writing import Writing
from smcgen.text.potentials.base import TwistSession
from smcgen.text.scoring import Scoring
from smcgen.text.texts import Finish
from tests.text import vllm_tiny
from tests.text.vllm_tiny import assert_same, needs_vllm, run

LINES = Step(when=lambda text: text.endswith(("a", "b")), tokens=12)


def worth(texts):
    return [0.6 * t.count("a") - 0.3 * t.count(".") for t in texts]


HERE, AWAY = FunctionReward(worth), FunctionReward(worth, elsewhere=True)


class Part(TwistSession):
    """A twist that notes whom it was asked about, and by whom."""

    def __init__(self):
        self.waves: list[tuple[str, list[int], list[int]]] = []

    def log_psi(self, texts, rows):
        name = threading.current_thread().name
        self.waves.append((name, rows.tolist(), texts.lengths[rows].tolist()))
        return rows + 0.5


def some_texts(rows: int) -> Texts:
    none = np.zeros(rows, np.int32)
    empty = np.zeros((rows, 0), np.int32)
    return Texts([Prompt((0,), "")], rows, empty, none, empty, np.zeros(rows, np.int8), None)


LAST = {Finish.RUNNING: 2, Finish.EOS: 3, Finish.DEAD: -1, Finish.LENGTH: 1}
STOPS = Step(when=lambda ids: ids[-1] == 2, on="ids")


def scored(lengths, finish, order, may_cut=False) -> tuple[Part, Part, np.ndarray]:
    """A step of such lengths, whose rows get their tokens in this order, batch by batch."""
    away, here, rows = Part(), Part(), np.arange(len(lengths))
    limits = np.where(finish == Finish.LENGTH, lengths, 99)
    writing = Writing(rows, STOPS, limits, False, np.arange(4) == 3, None, len(rows))
    texts, got = some_texts(len(rows)), np.zeros(len(rows), int)
    with Scoring(texts, rows, [away, here], [True, False], may_cut) as scoring:
        for batch in map(np.asarray, order):
            got[batch] += 1
            last = [LAST[Finish(f)] for f in finish[batch]]
            tokens = np.where(got[batch] == lengths[batch], last, 1)
            writing.push(batch, np.concatenate([tokens[None], np.zeros((3, len(batch)))]))
            scoring.told(writing)
        assert not writing.active.any()
        new = writing.extension()
        texts = texts.extended(rows, new.tokens, new.lengths, new.finish)
        alive = np.flatnonzero(new.finish != Finish.DEAD)
        return away, here, scoring.log_psi(texts, new, alive)


@pytest.mark.parametrize("seed", range(20))
def test_waves_depend_on_lengths_alone(seed):
    draws = np.random.default_rng(seed)
    m = int(draws.integers(1, 20))
    lengths = draws.integers(1, 9, size=m)
    finish = draws.choice([0, Finish.EOS, Finish.DEAD, Finish.LENGTH], size=m).astype(np.int8)
    expected = None
    for how in ("together", "in turn", "at random"):
        left, order = lengths.copy(), []
        while left.any():
            there = np.flatnonzero(left)
            batch = {
                "together": there,
                "in turn": there[-1:],
                "at random": draws.permutation(there)[: draws.integers(1, len(there) + 1)],
            }[how]
            left[batch] -= 1
            order.append(batch)
        away, here, log_psi = scored(lengths, finish, order, may_cut=seed % 2 == 0)
        alive = np.flatnonzero(finish != Finish.DEAD)
        np.testing.assert_array_equal(log_psi, 2 * (alive + 0.5))
        assert sorted(r for _, rows, _ in away.waves for r in rows) == alive.tolist()
        assert all(known == lengths[rows].tolist() for _, rows, known in away.waves)
        assert [rows for _, rows, _ in here.waves] == [alive.tolist()]
        early = [w for w in away.waves if w[0] == "smcgen-scoring"]
        assert away.waves[: len(early)] == early
        assert len(away.waves) - len(early) <= 1
        for _, wave, known in early:
            assert 4 * len(wave) >= m
            assert max(known) < lengths.max()  # of those that are not dead, or longer
            if seed % 2 == 0:  # factors have a word on texts that are cut off
                assert not (finish[wave] == Finish.LENGTH).any()
        expected = expected or away.waves
        assert [w[1] for w in away.waves] == [w[1] for w in expected]


def test_the_longest_are_scored_when_the_step_is_over():
    away, _, _ = scored(np.array([1, 1, 5, 5]), np.zeros(4, np.int8), [[0, 1, 2, 3]] + 4 * [[2, 3]])
    assert away.waves == [("smcgen-scoring", [0, 1], [1, 1]), ("MainThread", [2, 3], [5, 5])]


@needs_vllm
@pytest.mark.parametrize(
    "case", ["lines", "several prompts", "a constraint", "on some texts", "beside another"]
)
def test_a_run_stays_what_it_is(case):
    wrap = {
        "a constraint": lambda reward: reward * Regex("[ab.]*", incomplete="allow"),
        "on some texts": lambda reward: where(lambda text: "a" in text, reward, on="text"),
        "beside another": lambda reward: reward * FunctionReward(lambda ts: [0.1] * len(ts)),
    }.get(case, lambda reward: reward)
    prompt = ["ab", "a long prompt."] if case == "several prompts" else "ab"
    asked = []

    def noted(texts):
        asked.append((threading.current_thread().name, len(texts)))
        return worth(texts)

    one, two = (
        run(vllm_tiny.engine(), prompt, LINES, wrap(reward), n=8, seed=3, ess_threshold=1.0)
        for reward in (HERE, FunctionReward(noted, elsewhere=True))
    )
    assert_same(one, two, exact=True)
    assert one.cost.reward_calls == two.cost.reward_calls
    assert "smcgen-scoring" in {name for name, _ in asked}


@needs_vllm
def test_the_engine_writes_meanwhile(monkeypatch):
    """The first wave is not answered before the engine has made another step."""
    engine = vllm_tiny.engine()
    core, waits, stepped = engine._core, threading.Event(), threading.Event()
    step = core._step

    def noted():
        step()
        if waits.is_set():
            stepped.set()

    monkeypatch.setattr(core, "_step", noted)

    def reward(texts):
        if threading.current_thread().name == "smcgen-scoring":
            waits.set()
            assert stepped.wait(60)
        return worth(texts)

    run(engine, "ab", LINES, FunctionReward(reward, elsewhere=True), n=8, seed=3)
    assert stepped.is_set()


@needs_vllm
def test_what_a_wave_raises_is_told_with_the_run():

    def broken(texts):
        if threading.current_thread().name == "smcgen-scoring":
            raise KeyError("broken")
        return worth(texts)

    reward = FunctionReward(broken, elsewhere=True)
    with pytest.raises(RewardError, match="KeyError: 'broken'") as caught:
        run(vllm_tiny.engine(), "ab", LINES, reward, n=8, seed=3, on_error="raise")
    assert caught.value.result.n_particles == 8  # type: ignore[attr-defined]
    assert not vllm_tiny.engine()._core._open
    assert not any(t.name == "smcgen-scoring" for t in threading.enumerate())


@needs_vllm
def test_an_interrupted_run_does_not_wait_for_a_wave():
    begun, free = threading.Event(), threading.Event()

    def slow(texts):
        if threading.current_thread().name == "smcgen-scoring":
            begun.set()
            free.wait(60)
        return worth(texts)

    def interrupted(text):
        if begun.is_set():
            raise KeyboardInterrupt
        return LINES.when(text)

    step = Step(when=interrupted, tokens=12)
    try:
        result = run(vllm_tiny.engine(), "ab", step, FunctionReward(slow, elsewhere=True), n=8)
        assert result.status == Status.INTERRUPTED
    finally:
        free.set()
