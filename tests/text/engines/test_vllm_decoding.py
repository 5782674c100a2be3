"""The short way through vLLM's scheduler: who takes it, and that nothing differs."""

import jax
import numpy as np
import pytest

from smcgen.core.cost import Meter
from smcgen.text import Step
from smcgen.text.engines.base import Law
from smcgen.text.prompts import encode
from smcgen.text.randomness import StepRandomness
from tests.text import vllm_tiny
from tests.text.vllm_tiny import assert_same, run

pytestmark = [vllm_tiny.needs_vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def engine():
    return vllm_tiny.engine()


@pytest.fixture
def short(engine, monkeypatch):
    """How many tokens were written the short way."""
    scheduler, counts = engine._core.scheduler, []
    add = scheduler._add

    def counted(out, simple, before):
        counts.append(len(simple))
        add(out, simple, before)

    monkeypatch.setattr(scheduler, "_add", counted)
    return counts


@pytest.mark.parametrize("step", [1, 9])
def test_it_is_taken_and_changes_nothing(engine, short, monkeypatch, step):
    kw = {"n": 24, "step": step, "tokens": 100, "seed": 3, "ess_threshold": 1.0}
    scheduler = engine._core.scheduler
    pool = scheduler.kv_cache_manager.block_pool
    free = pool.get_num_free_blocks()
    ours = run(engine, "ab.\n" * 5, **kw)
    written = int(ours.cost.tokens_generated)
    # not where a text fills a block of 32 or needs one, nor beside a copy that begins where a text had ended
    assert 0.5 * written < sum(short) < written
    short.clear()
    monkeypatch.setattr(scheduler, "_short", False)
    assert_same(ours, run(engine, "ab.\n" * 5, **kw), exact=True)
    assert not short
    assert pool.get_num_free_blocks() == free
    assert not scheduler.requests


def test_what_particles_wrote_is_in_the_prefix_cache(engine, short):
    """Blocks are filled and named as vLLM's own are."""
    scheduler = engine._core.scheduler
    ours = run(engine, "ab.\n" * 14, n=32, step=200, tokens=200, seed=11).particles
    assert short
    row = int(ours.lengths.argmax())
    text = [*ours.prompts[0].ids, *ours.tokens(row)]
    assert len(text) > 65  # the prompt has 57
    engine._core.engine.add_request("again", {"type": "token", "prompt_token_ids": text}, greedy(1))
    out = scheduler.schedule()
    (new,) = out.scheduled_new_reqs
    # all blocks that are full, but for the last token, which is computed in any case
    assert new.num_computed_tokens == (len(text) - 1) // 32 * 32
    engine._core.engine.abort_request(["again"])
    while engine._core.engine.has_unfinished_requests():
        engine._core.engine.step()


def test_requests_of_others_go_vllms_way(engine, short):
    """They are taken along, and end where they should; meanwhile so do ours."""
    kw = {"n": 8, "step": 4, "tokens": 40, "seed": 5}
    alone, before = run(engine, "ab", **kw), len(short)
    foreign = {"type": "token", "prompt_token_ids": [1, 2, 3]}
    engine._core.engine.add_request("foreign", foreign, greedy(20))
    beside = run(engine, "ab", **kw)
    assert_same(alone, beside)
    assert 0 < len(short) - before < before  # while it was there nobody went the short way
    assert "foreign" not in engine._core.scheduler.requests
    engine._core.engine.output_processor.abort_requests(["foreign"], internal=True)


def test_a_text_ends_at_the_longest_length():
    with vllm_tiny.new_engine(max_length=48) as small:
        kw = {"n": 6, "step": 5, "tokens": 100, "seed": 4}
        result = run(small, "ab", **kw)
        lengths = result.particles.lengths + 2
        assert lengths.max() == 48
        theirs = vllm_tiny.twin()
        assert theirs.max_length > 48
        np.testing.assert_array_equal(
            result.particles.ids[:, :20], run(theirs, "ab", **kw).particles.ids[:, :20]
        )


def test_copies_outlive_a_schedule_that_finds_no_room(engine, monkeypatch):
    """Two texts need a block, and there is none: others, just rewritten, run first, once a paused one gave its."""
    scheduler, held = engine._core.scheduler, []
    pool, schedule = scheduler.kv_cache_manager.block_pool, scheduler.schedule

    def without_room(*args):
        monkeypatch.setattr(scheduler, "schedule", schedule)
        held.extend(pool.get_new_blocks(pool.get_num_free_blocks()))
        out = schedule(*args)
        assert not scheduler._resuming
        return out

    def steps(of, before=lambda: None):
        keys = jax.random.split(jax.random.key(0), (2, 2))
        rows, limits = np.arange(4), np.full(4, 60)
        write = lambda session, key, m: session.extend(
            rows[:m], Step(tokens=3), limits[:m], StepRandomness(key, max(1, m // 2))
        )
        prompts = [encode(of.tokenizer, p) for p in ("ab" * 15, "b.a")]
        bystander = of.open(prompts[:1], 1, Law(), Meter())
        write(bystander, keys[0][:1], 1)
        session = of.open(prompts, 2, Law(), Meter())
        assert not write(session, keys[0], 4).finish.any()
        session.take(np.array([0, 0, 2, 2]))
        before()
        out = write(session, keys[1], 4)
        session.close()
        bystander.close()
        return out

    for name in ("max_num_running_reqs", "max_num_active_reqs"):
        monkeypatch.setattr(scheduler, name, 2)
    ours = steps(engine, lambda: monkeypatch.setattr(scheduler, "schedule", without_room))
    theirs = steps(vllm_tiny.twin())
    assert held
    pool.free_blocks(held)
    np.testing.assert_array_equal(ours.tokens, theirs.tokens)
    np.testing.assert_allclose(ours.log_base, theirs.log_base, atol=1e-3)


def greedy(tokens):
    from vllm.sampling_params import SamplingParams

    return SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True, detokenize=False)
