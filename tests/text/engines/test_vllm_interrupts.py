"""The vLLM engine interrupted at awkward moments, asked from within, and told to copy copies."""

import threading
import time
from functools import reduce
from unittest.mock import Mock

import jax
import numpy as np
import pytest
import torch

from smcgen.core.cost import Meter
from smcgen.errors import EngineError
from smcgen.text import FunctionReward, Step
from smcgen.text.engines.base import Law
from smcgen.text.prompts import encode
from smcgen.text.randomness import StepRandomness
from tests.text import vllm_tiny
from tests.text.vllm_tiny import assert_same, run

pytestmark = [vllm_tiny.needs_vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def engine():
    return vllm_tiny.engine()


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize(
    "where",
    [
        "_requests._rewrite._rows flush",
        "scheduler schedule",
        "_requests._port add",
        "_requests._port abort",
        "engine.model_executor.driver_worker.worker.model_runner execute_model",
    ],
)
def test_ctrl_c_where_requests_begin_end_and_are_copied(engine, where, after):
    """What waits to be copied, or was told to the engine and not yet noted, is let go of."""
    steers = FunctionReward(lambda texts: [2.0 * t.count("a") - t.count(".") for t in texts])
    options = {"step": 3, "n": 8, "potential": steers, "ess_threshold": 1.0}
    path, name = where.split()
    owner = reduce(getattr, path.split("."), engine._core)
    real, calls = getattr(owner, name), []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == {"add": 3, "abort": 1}.get(name, 5):
            if after:
                real(*args)
            raise KeyboardInterrupt
        return real(*args)

    setattr(owner, name, interrupted)
    run(engine, "ab", **options)
    delattr(owner, name)
    assert_same(run(engine, "ab", **options), run(vllm_tiny.twin(), "ab", **options))
    assert not engine._core.scheduler.requests


def test_ctrl_c_while_texts_of_another_thread_begin(engine):
    """The thread that is interrupted lets them in for both; the other's texts are not forgotten."""
    core, found = engine._core, []
    start, step = core._start, core._requests._port.step
    options = {"n": 8, "step": 20, "tokens": 60, "seed": 5}
    thread = threading.Thread(
        target=lambda: found.append(run(engine, "ab", **options)), daemon=True
    )

    def until_the_other_asks():
        core._requests._port.step = step
        thread.start()
        while not core._inbox:
            time.sleep(0.001)
        core._start = interrupted
        return step()

    def interrupted(writer, rows):
        if len(rows) == options["n"]:
            core._start = start
            raise KeyboardInterrupt
        start(writer, rows)

    core._requests._port.step = until_the_other_asks
    assert run(engine, "ab", n=4).num_steps < 2
    thread.join(20)
    assert not thread.is_alive()
    assert_same(found[0], run(vllm_tiny.twin(), "ab", **options))


def test_ctrl_c_in_another_thread_while_requests_that_cannot_be_rewritten_end(engine, monkeypatch):
    """The thread that is interrupted was about to begin texts of others, which it does not leave without requests."""
    core, found, beginning = engine._core, [], []
    requests, drain = core._requests, core._drain
    start, abort = requests.start, requests.abort

    def noted(*args):
        beginning.append(1)
        start(*args)
        beginning.pop()

    def interrupted(names):
        if beginning:
            monkeypatch.setattr(requests, "abort", abort)
            beginning.clear()
            monkeypatch.setattr(requests, "start", start)
            raise KeyboardInterrupt
        abort(names)

    def drained():
        try:
            drain()
        except KeyboardInterrupt:  # of somebody else; whoever steps the engine next goes on
            found.append("interrupted")
            drain()

    monkeypatch.setattr(core.scheduler, "forks", False)
    monkeypatch.setattr(core, "_drain", drained)
    monkeypatch.setattr(requests, "start", noted)
    monkeypatch.setattr(requests, "abort", interrupted)
    options = {"n": 8, "step": 3, "ess_threshold": 1.0}
    work = lambda: found.append(run(engine, "ab", **options))
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(20)
    assert not thread.is_alive()
    assert found[0] == "interrupted"
    assert_same(found[1], run(vllm_tiny.twin(), "ab", **options))


def test_ctrl_c_before_texts_begin(engine):
    """They do not begin afterwards, for nobody."""
    core = engine._core

    def interrupted():
        raise KeyboardInterrupt

    core._inbox.append(interrupted)
    assert run(engine, "ab", n=4).num_steps == 0
    assert not core._inbox
    assert not core._where
    assert not core.scheduler.requests


def test_ctrl_c_while_a_dead_engine_is_built_again():
    with vllm_tiny.new_engine(restarts=1) as mortal:
        core = mortal._core
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(core._requests._port, "step", lambda: 1 / 0)
            patch.setattr(core, "_make", Mock(side_effect=KeyboardInterrupt))
            assert run(mortal, "ab", n=4).num_steps == 0
        with pytest.raises(EngineError, match="make a new one"):
            run(mortal, "ab", n=4)


def test_a_function_in_a_step_cannot_ask_the_engine_of_that_step(engine):
    prompt = encode(engine.tokenizer, "ab")

    def asks(text):
        return engine.score([prompt], [[0]])[0] < 0

    with pytest.raises(EngineError, match="another engine"):
        run(engine, "ab", step=asks)
    with pytest.raises(EngineError, match="another engine"):
        run(engine, "ab", step=lambda text: engine.close())
    assert_same(run(engine, "ab"), run(vllm_tiny.twin(), "ab"))


def test_copies_of_copies(engine):
    """Rows are taken several times before they go on: whose request another copies is not rewritten."""

    def steps(of, seed, n=6):
        session = of.open([encode(of.tokenizer, "ab")], n, Law(), Meter())
        rng, rows = np.random.default_rng(seed), np.arange(n)
        for key in jax.random.split(jax.random.key(seed), (5, 1)):
            limits = np.full(n, 60)
            yield session.extend(rows, Step(tokens=3), limits, StepRandomness(key, n))
            for _ in range(3):
                session.take(rng.integers(0, n, n))
        session.close()

    for seed in range(3):
        for ours, theirs in zip(steps(engine, seed), steps(vllm_tiny.twin(), seed), strict=True):
            np.testing.assert_array_equal(ours.tokens, theirs.tokens)
            np.testing.assert_allclose(ours.log_base, theirs.log_base, atol=1e-3)


@pytest.mark.parametrize("seed", [2, 4])
@pytest.mark.parametrize("again", [False, True])
def test_copies_that_write_later_than_whom_they_copy(engine, seed, again):
    """A row goes on while its copies do not: they are copies of what it was."""

    def steps(of, n=4):
        session = of.open([encode(of.tokenizer, "ab")], n, Law(), Meter())
        rows_of_steps = [[0, 1, 2, 3], [0], [1, 2], [0, 1, 2, 3]]
        keys = jax.random.split(jax.random.key(seed), (4, 1))
        for rows, key in zip(map(np.array, rows_of_steps), keys, strict=True):
            limits = np.full(len(rows), 60)
            yield session.extend(rows, Step(tokens=3), limits, StepRandomness(key, n))
            if len(rows) == n:
                session.take(np.array([0, 0, 0, 3]))
            elif again and len(rows) == 1:  # whom they copied is gone
                session.take(np.array([3, 1, 2, 3]))
        session.close()

    for ours, theirs in zip(steps(engine), steps(vllm_tiny.twin()), strict=True):
        np.testing.assert_array_equal(ours.tokens, theirs.tokens)
        np.testing.assert_allclose(ours.log_base, theirs.log_base, atol=1e-3)


def test_slots_and_blocks_of_the_v2_runner_change_at_once():
    from vllm.v1.request import Request

    from smcgen.text.engines._vllm.rows import V2Rows

    counts = ("max_seq_len", "num_computed_prefill_tokens", "num_computed_tokens_np")
    lengths = ("prompt_len", "prefill_len")
    states = Mock(device=torch.device("cpu"), req_id_to_index={"a": 0, "b": 1, "c": 2, "d": 3})
    for name in counts:
        setattr(states, name, np.arange(4))
    for name in lengths:
        getattr(states, name).np = np.arange(4)
    states.last_sampled_tokens = torch.arange(4)[:, None]
    states.total_len.gpu, states.num_computed_tokens.gpu = torch.arange(4), torch.arange(4)
    caches = [torch.arange(12.0).reshape(6, 2) + 100 * layer for layer in range(2)]
    before = [cache.clone().reshape(3, 4) for cache in caches]
    table = torch.arange(12, dtype=torch.int32).reshape(4, 3)
    tables = Mock(block_tables=[Mock(gpu=table)])
    tables.num_blocks.np = np.full((1, 4), 3)
    runner = Mock(
        req_states=states,
        block_tables=tables,
        model_config=Mock(uses_mrope=False),
        kv_caches=[*caches, caches[0]],
        kv_cache_config=Mock(num_blocks=3),
    )
    rows, scheduler = V2Rows(runner), Mock()
    # c is to have two blocks, a and b the three that they had, and d others: each its own last one
    of = {"a": ("b", [3, 4, 30]), "b": ("c", []), "d": ("a", [3, 4, 31]), "c": ("d", [3, 32])}
    for name, (other, blocks) in of.items():
        rows.rewrite(name, other, Mock(spec=Request), blocks)
    scheduler.take_copies.return_value = [(0, 1), (2, 0)]
    rows.flush(scheduler)
    known = [getattr(states, name) for name in counts]
    known += [getattr(states, name).np for name in lengths]
    known += [states.total_len.gpu, states.num_computed_tokens.gpu]
    assert [k.tolist() for k in known] == [[1, 2, 1, 1]] * 7
    assert states.last_sampled_tokens.tolist() == [[1], [2], [1], [1]]
    assert tables.num_blocks.np.tolist() == [[3, 3, 2, 3]]
    assert table.tolist() == [[3, 4, 30], [3, 4, 5], [3, 32, 5], [3, 4, 31]]
    for cache, old in zip(caches, before, strict=True):
        assert torch.equal(cache.reshape(3, 4), old[[2, 0, 2]])
    scheduler.take_copies.return_value = []  # a block's end, and blocks that both had: nothing moves
    rows.rewrite("c", "b", Mock(spec=Request), [])
    rows.flush(scheduler)
    assert states.max_seq_len.tolist() == [1, 2, 2, 1]
    assert table[2].tolist() == [3, 32, 5]
    rows.rewrite("a", "b", Mock(spec=Request), [7])
    rows.forget()
    tables.block_tables[0].clear_staged_writes.assert_called_once()
    rows.flush(scheduler)
    assert states.max_seq_len.tolist() == [1, 2, 2, 1]
