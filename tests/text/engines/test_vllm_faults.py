"""The vLLM engine when something goes wrong: it dies, is interrupted, closed, scored, asked for nonsense."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from smcgen.core.cost import Meter
from smcgen.errors import EngineError, InvalidArgument
from smcgen.text import Regex, Step, TokenMask
from smcgen.text.engines.base import Law
from smcgen.text.prompts import encode
from tests.text import vllm_tiny
from tests.text.vllm_tiny import TILT, assert_same, run

pytestmark = [vllm_tiny.needs_vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def engine():
    return vllm_tiny.engine()


def fail_once(engine, error, at):
    """The engine's step raises `error` the `at`-th time it is called."""
    port, calls = engine._core._requests._port, []

    def step(real=port.step):
        calls.append(1)
        if len(calls) == at:
            raise error
        return real()

    port.step = step


def test_an_engine_that_dies_is_built_again_until_it_dies_for_good():
    """At step level; in lockstep, with more particles than places; then it says so, and loses nothing."""
    lines = {"step": "\n", "potential": Regex(r"([ab]+[.\n])*") * TILT, "n": 24}
    lockstep = {"n": 16, "step": Step(ess=0.5), "potential": Regex(r"([ab]+[.\n])*"), "tokens": 20}
    with vllm_tiny.new_engine(restarts=2, max_num_seqs=6) as mortal:
        for kw, at in ((lines, 7), (lockstep, 11)):
            fail_once(mortal, RuntimeError("out of luck"), at)
            with pytest.warns(RuntimeWarning, match="built"):
                result = run(mortal, "ab", **kw)
            assert_same(result, run(vllm_tiny.twin(), "ab", **kw))
        fail_once(mortal, RuntimeError("out of luck"), at=9)
        with pytest.raises(EngineError, match="out of luck") as caught:
            run(mortal, "ab", step=2, n=6)
        so_far = caught.value.result
        assert so_far.num_steps == 3 or so_far.num_steps == 4
        assert so_far.particles.lengths.min() > 0
        with pytest.raises(EngineError, match="make a new one"):
            run(mortal, "ab")


def test_ctrl_c_in_the_middle_of_a_step(engine):
    fail_once(engine, KeyboardInterrupt(), at=5)
    interrupted = run(engine, "ab", step=2)
    assert 0 < interrupted.num_steps < 5
    assert_same(run(engine, "ab", step=2), run(vllm_tiny.twin(), "ab", step=2))


def test_a_function_of_the_users_that_raises_leaves_the_engine_well(engine):
    def bad(text):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        run(engine, "ab", step=bad)
    assert not engine._core.scheduler.requests
    assert_same(run(engine, "ab"), run(vllm_tiny.twin(), "ab"))


def test_a_checkpointed_run_goes_on(engine, tmp_path):
    whole = run(engine, "ab", step=2)

    def stop(progress):
        if progress.t == 3:
            raise KeyError("stop")

    with pytest.raises(KeyError):
        run(engine, "ab", step=2, callback=stop, checkpoint=tmp_path / "run")
    assert_same(run(engine, "ab", step=2, checkpoint=tmp_path / "run"), whole)


def test_bad_arguments(unchecked):
    for options, named in [
        ({"max_num_seqs": 0}, "max_num_seqs"),
        ({"scheduler_cls": object}, "scheduler_cls"),
        ({"no_such_argument": 1}, "no_such_argument"),
        ({"max_length": 100_000}, "100000|max_model_len"),
    ]:
        with pytest.raises(InvalidArgument, match=named):
            vllm_tiny.new_engine(**options)
    from smcgen.text.engines.vllm import VLLM

    with pytest.raises(InvalidArgument, match="model"):
        VLLM("no/such/folder/at/all")


def test_prompts_that_do_not_fit(engine):
    with pytest.raises(InvalidArgument, match="max_length"):
        engine.open([encode(engine.tokenizer, "a" * 129)], 1, Law(), Meter())
    full = run(engine, "a" * 126, n=4)
    assert full.particles.lengths.max() <= 2
    assert_same(full, run(vllm_tiny.twin(), "a" * 126, n=4))


def test_scores_while_others_write(engine):
    """Scores come from the same batches as texts, and take nothing from them."""
    small = vllm_tiny.new_engine(max_num_seqs=4)
    prompts = [encode(engine.tokenizer, p) for p in ("ab", "b.a\n" * 10)]
    completions = [[0, 1, 2], [1, 1]]
    expected = vllm_tiny.twin().score(prompts, completions)
    wrong: list[str] = []

    def keep_scoring(stop):
        while not stop.is_set():
            for a, b in zip(small.score(prompts, completions), expected, strict=True):
                if not np.allclose(a, b, atol=1e-3):
                    wrong.append(f"{a} {b}")

    stop = threading.Event()
    thread = threading.Thread(target=keep_scoring, args=(stop,))
    with small:
        thread.start()
        try:
            for seed in range(3):
                ours = run(small, "ab", n=12, step=3, seed=seed)
                assert_same(ours, run(vllm_tiny.twin(), "ab", n=12, step=3, seed=seed))
        finally:
            stop.set()
            thread.join()
    assert not wrong


def test_ctrl_c_in_the_middle_of_a_forward_pass(engine):
    """Blocks that were scheduled and never computed are not taken for cached ones."""
    prompt = "b.\nab" * 16  # two blocks and more
    runner = engine._core.engine.model_executor.driver_worker.worker.model_runner
    real = runner.execute_model

    def interrupted(*args, **kwargs):
        del runner.execute_model
        raise KeyboardInterrupt

    runner.execute_model = interrupted
    assert run(engine, prompt, step=2).num_steps == 0
    assert runner.execute_model == real
    assert_same(run(engine, prompt, step=2), run(vllm_tiny.twin(), prompt, step=2))


def test_a_factor_that_is_wrong_harms_nobody_else(engine):
    """Two populations of one law in one batch, one of which has masks of a wrong width."""

    class Narrow(TokenMask):
        def open_factor(self, setting):
            return super().open_factor(setting._replace(vocab_size=setting.vocab_size - 1))

    errors: list = []

    def bad():
        try:
            run(engine, "ab", n=4, potential=Narrow(lambda ids: [[0, 1]] * len(ids)))
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=bad)
    thread.start()
    good = {"n": 4, "potential": TokenMask(lambda ids: [[0, 1, 4]] * len(ids)), "tokens": 60}
    assert_same(run(engine, "ab", **good), run(vllm_tiny.twin(), "ab", **good))
    thread.join()
    assert len(errors) == 1
    assert "KV" not in str(errors[0])


def test_closing_while_threads_write():
    """numba is there before: vLLM's start looks into every module, llvmlite's odd objects included."""
    binding = pytest.importorskip("llvmlite.binding")
    assert not hasattr(vars(binding.ffi.lib), "get")
    mortal = vllm_tiny.new_engine()
    errors: list = []

    def work():
        try:
            run(mortal, "ab", n=64, step=1, tokens=100)
        except EngineError as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    while not mortal._core._open:
        pass
    mortal.close()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert all("closed" in str(e) for e in errors)
    with pytest.raises(EngineError, match="make a new one"):
        mortal.score([encode(mortal.tokenizer, "ab")], [[1]])


THREADS = """
import threading, torch
torch.set_num_threads(2)
from tests.text.vllm_tiny import new_engine, run
engine, found = new_engine(), []
work = lambda: found.append(float(run(engine, "ab", n=4, on_error="raise").log_evidence))
work()
thread = threading.Thread(target=work)
thread.start()
thread.join()
assert found[0] == found[1], found
engine.close()
"""


def test_any_thread_steps_the_engine_with_as_many_threads_of_torch():
    """Where the system's own number is another one: it was a new thread's until torch's first operation."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", THREADS],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
