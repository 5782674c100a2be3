"""`smc_each`: the results of one run over all problems, each at its own pace."""

import os
import signal
import threading
import time

import numpy as np
import pytest

import smcgen
from smcgen.core import each
from smcgen.core.status import SMCInterrupted
from smcgen.errors import EngineError, InvalidArgument, RewardError
from smcgen.text import FunctionReward, TextModel
from tests.text.toy import ToyEngine

TILT = FunctionReward(lambda texts: [0.5 * t.count("a") for t in texts])
PROMPTS = ["a", "ab", "b.", "."]


def model(prompts=PROMPTS, reward=TILT):
    return TextModel(ToyEngine(max_tokens=4), prompts, reward, 1, max_tokens=4)


@pytest.mark.slow
def test_gives_what_one_run_over_all_problems_gives():
    together = smcgen.smc(model(), 3, 8, keep="particles")
    apart = smcgen.smc_each(model().split(), 3, 8, keep="particles")
    for b, run in enumerate(apart):
        assert run.log_evidence == pytest.approx(float(together.log_evidence[b]), abs=1e-6)
        mine = together.particles.ids[8 * b : 8 * b + 8]
        width = run.particles.ids.shape[1]
        np.testing.assert_array_equal(run.particles.ids, mine[:, :width])
        np.testing.assert_allclose(run.log_weights, together.log_weights[b], atol=1e-6)


def test_nobody_waits_for_another():
    """The first run cannot go on before the last one has ended."""
    ended = threading.Event()
    told = []

    def watch(b, progress):
        told.append(b)
        if b == 3 and progress.t == 2:
            ended.set()
        if b == 0 and progress.t == 1:
            assert ended.wait(60)

    smcgen.smc_each(model().split(), 0, 4, callback=watch)
    assert set(told) == {0, 1, 2, 3}


def test_an_error_in_one_run_leaves_the_others():

    def broken(texts):
        raise KeyError("broken")

    models = model().split()
    models[1] = model(["a"], FunctionReward(broken)).split()[0]
    with pytest.raises(RewardError, match="broken") as caught:
        smcgen.smc_each(models, 0, 4)
    assert "in run 1 of 4" in "".join(caught.value.__notes__)
    results = caught.value.result
    assert [r.num_steps > 0 for r in results] == [True, False, True, True]


def test_interrupted_runs_are_kept(monkeypatch):
    import smcgen.core.each as each

    def interrupted(futures):
        raise KeyboardInterrupt

    monkeypatch.setattr(each, "as_completed", interrupted)
    with pytest.raises(SMCInterrupted, match="4 runs") as caught:
        smcgen.smc_each(model().split(), 0, 4)
    assert len(caught.value.result) == 4


def test_an_interrupt_while_runs_are_begun_ends_them(monkeypatch):
    """They are not waited for to their end."""
    import smcgen.core.each as each

    begun, steps = threading.Event(), []

    class Pool(each.ThreadPoolExecutor):
        def submit(self, *args):
            if begun.is_set():
                interrupted.set()
                raise KeyboardInterrupt
            future = super().submit(*args)
            begun.wait(10)
            return future

    interrupted = threading.Event()

    def watch(b, progress):
        begun.set()
        interrupted.wait(10)
        time.sleep(0.2)
        steps.append(progress.t)

    monkeypatch.setattr(each, "ThreadPoolExecutor", Pool)
    with pytest.raises(SMCInterrupted, match="4 runs"):
        smcgen.smc_each(model().split(), 0, 4, callback=watch)
    assert len(steps) == 1


def test_an_interrupt_ends_runs_that_have_not_begun(monkeypatch):
    """More runs than workers: those in the queue never begin, and are not waited for."""
    begun = []

    def watch(b, progress):
        begun.append(b)
        if len(begun) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(SMCInterrupted) as caught:
            smcgen.smc_each(model().split(), 0, 4, workers=1, callback=watch)
    finally:
        signal.signal(signal.SIGINT, before)
    assert set(begun) == {0}
    assert [result is None for result in caught.value.result] == [False, True, True, True]


def test_each_run_has_its_checkpoint(tmp_path):
    whole = smcgen.smc_each(model().split(), 0, 4)

    def stop(b, progress):
        if progress.t == 1 and b % 2:
            raise KeyError

    with pytest.raises(KeyError):
        smcgen.smc_each(model().split(), 0, 4, callback=stop, checkpoint=tmp_path)
    assert len(list(tmp_path.iterdir())) >= 4
    again = smcgen.smc_each(model().split(), 0, 4, checkpoint=tmp_path)
    assert [float(r.log_evidence) for r in again] == [float(r.log_evidence) for r in whole]


def test_bad_arguments():
    assert smcgen.smc_each([], 0) == []
    with pytest.raises(InvalidArgument, match="workers"):
        smcgen.smc_each(model().split(), 0, workers=0)


def test_progress_is_shown(capsys):
    smcgen.smc_each(model().split(), 0, 4, progress=True, workers=2)


def test_runs_start_together(monkeypatch):
    """The first step of any run comes after all have begun; one that cannot begin is not waited for."""
    monkeypatch.setattr(each, "_PATIENCE", 60.0)
    told = []

    class Opened(ToyEngine):
        def open(self, *args, **kwargs):
            told.append("begun")
            return super().open(*args, **kwargs)

    def reward(texts):
        told.append("scored")
        return [0.0] * len(texts)

    begins = TextModel(Opened(max_tokens=4), PROMPTS, FunctionReward(reward), 1, max_tokens=4)
    smcgen.smc_each(begins.split(), 0, 4)
    assert told[:5] == [*["begun"] * 4, "scored"]

    class Closed(ToyEngine):
        def open(self, *args, **kwargs):
            raise EngineError("closed")

    models = [*model().split(), TextModel(Closed(max_tokens=4), "a", TILT, 1, max_tokens=4)]
    began = time.monotonic()
    with pytest.raises(EngineError, match="closed"):
        smcgen.smc_each(models, 0, 4)
    assert time.monotonic() - began < 60.0


def test_nobody_is_waited_for_longer_than_a_moment():
    """More runs than workers: the second begins when the first has ended."""
    told = []
    smcgen.smc_each(model().split(), 0, 4, workers=1, callback=lambda b, progress: told.append(b))
    assert told == sorted(told)
