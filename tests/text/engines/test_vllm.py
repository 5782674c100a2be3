"""The vLLM engine for real: the same texts as on transformers, whatever happens to the engine."""

import gc
import threading

import numpy as np
import pytest
import torch

import smcgen
from smcgen.core.smc import smc
from smcgen.errors import EngineError
from smcgen.text import Regex, Sampling, Step, TextModel
from smcgen.text.engines.base import Engine
from smcgen.text.prompts import encode
from tests.laws import assert_law
from tests.text import vllm_tiny
from tests.text.vllm_tiny import TILT, assert_same, run

pytestmark = [vllm_tiny.needs_vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def engine():
    return vllm_tiny.engine()


def test_is_an_engine(engine):
    assert isinstance(engine, Engine)
    assert engine.vocab_size == 5
    assert engine.eos_ids == {4}
    assert engine.max_length == 128


CASES = {
    "a line": {"step": "\n"},
    "a delimiter over tokens": {"step": "ab"},
    "the same end twice": {"step": Step(delimiters=("\n", "a\n", "\n"), tokens=7)},
    "three tokens": {"step": 3},
    "a token": {"step": 1},
    "a function of the text": {"step": lambda text: text.endswith("a")},
    "tempered": {"sampling": Sampling(0.7, top_k=4, top_p=0.9)},
    "greedy": {"sampling": Sampling(0.0)},
    "another proposal": {"proposal": Sampling(1.6), "step": 2},
    "constrained": {"potential": Regex(r"([ab]+\.)*") * TILT},
    "run ahead": {"potential": Regex(r"([ab]+\.)*"), "step": Step(ess=0.5)},
}


@pytest.mark.parametrize("case", CASES)
def test_a_seed_gives_the_texts_that_it_gives_on_transformers(engine, case):
    options = {"step": 2, **CASES[case]}
    prompts = ["ab", "b.a", "a\n"] * 3
    assert_same(run(engine, prompts, **options), run(vllm_tiny.twin(), prompts, **options))


def test_512_particles_share_128_places(engine):
    assert_same(run(engine, "ab", n=512, step=4), run(vllm_tiny.twin(), "ab", n=512, step=4))


def test_the_law_by_chi_square(engine):
    """First three tokens of many particles against the model's own probabilities."""
    n, prompt = 2000, encode(engine.tokenizer, "ab")
    texts = [(i, j, k) for i in range(4) for j in range(4) for k in range(5)]
    texts += [(i, 4) for i in range(4)] + [(4,)]
    scores = vllm_tiny.twin().score([prompt] * len(texts), [list(t) for t in texts])
    law = np.exp([s.sum() for s in scores])
    model = TextModel(engine, "ab", step_rule=3, max_tokens=3)
    found = [tuple(t) for t in map(smc(model, 5, n).particles.tokens, range(n))]
    assert sum(law) == pytest.approx(1, abs=1e-4)
    assert_law(np.array([found.count(t) for t in texts]), law)


def test_scores_agree_with_transformers(engine):
    rng = np.random.default_rng(0)
    prompts = [encode(engine.tokenizer, p) for p in ("ab", "b.a\n" * 10, "." * 40)]
    prompts = [p for p in prompts for _ in range(4)]
    completions = [rng.integers(0, 5, rng.integers(1, 60)).tolist() for _ in prompts]
    completions[3] = []
    completions[5] = rng.integers(0, 4, 128 - len(prompts[5].ids)).tolist()  # up to the very end
    for sampling in (Sampling(), Sampling(0.6, top_k=3)):
        for _ in range(2):  # the second time all is in the prefix cache
            ours = engine.score(prompts, completions, sampling)
            theirs = vllm_tiny.twin().score(prompts, completions, sampling)
            for a, b in zip(ours, theirs, strict=True):
                np.testing.assert_allclose(a, b, atol=1e-3)


def test_forks_read_nothing_again(engine):
    scheduler = engine._core.scheduler
    before, missed = scheduler.forked, scheduler.missed
    result = run(engine, ".\na." * 12, n=64, step=1, ess_threshold=1.0)
    assert scheduler.forked - before >= 63 + 64
    assert scheduler.missed == missed
    assert result.cost.tokens_prefilled == 48
    assert not scheduler.requests
    assert not scheduler.paused


def test_copies_take_over_requests_that_nobody_needs(engine, monkeypatch):
    """New requests are for the first texts, and for copies of a text in the place of one that had ended."""
    scheduler = engine._core.scheduler
    pool, before = scheduler.kv_cache_manager.block_pool, scheduler.forked
    free, new, add = pool.get_num_free_blocks(), [], engine._core._requests._port.add
    monkeypatch.setattr(engine._core._requests._port, "add", lambda *asked: new.append(add(*asked)))
    for step, n in ((1, 16), (7, 12)):
        kw = {"n": n, "step": step, "ess_threshold": 1.0, "tokens": 70}
        assert_same(run(engine, "ab.", **kw), run(vllm_tiny.twin(), "ab.", **kw))
    assert len(new) < scheduler.forked - before  # each copy a new request: as many and more
    assert pool.get_num_free_blocks() == free


def test_too_little_memory_changes_no_text(monkeypatch):
    """Blocks for a part of the population: texts are preempted and computed again."""
    small = vllm_tiny.new_engine(kv_cache_memory_bytes=1 << 19, max_num_seqs=64)
    with small:
        blocks = small._core.scheduler.kv_cache_manager.block_pool.num_gpu_blocks
        assert blocks < 48 * 3  # 48 texts of 100 tokens and more need three blocks of 32 each
        scheduler, lost = small._core.scheduler, []
        preempt = scheduler._preempt_request

        def counted(request, *args, **kwargs):
            lost.append(request.num_computed_tokens)
            preempt(request, *args, **kwargs)

        monkeypatch.setattr(scheduler, "_preempt_request", counted)
        for step in (1, 8):
            lost.clear()
            kw = {"n": 48, "step": step, "tokens": 90, "potential": Regex(r"[ab.\n]*")}
            ours, theirs = run(small, "ab" * 10, **kw), run(vllm_tiny.twin(), "ab" * 10, **kw)
            assert_same(ours, theirs)
            assert sum(n > 0 for n in lost) > 5  # that it happened
            assert ours.cost.tokens_prefilled > theirs.cost.tokens_prefilled  # and was made good


def test_paused_texts_may_lose_their_blocks(engine, monkeypatch):
    """As they do on the V2 runner when its slots are taken."""
    scheduler = engine._core.scheduler
    pause = scheduler.pause

    def pause_and_evict(names):
        pause(names)
        monkeypatch.setattr(scheduler, "max_num_running_reqs", 0)
        scheduler._fit()
        monkeypatch.setattr(scheduler, "max_num_running_reqs", 128)

    monkeypatch.setattr(scheduler, "pause", pause_and_evict)
    kw = {"n": 24, "step": 5, "tokens": 60, "seed": 7}
    result = run(engine, "\n.b" * 15, **kw)
    assert result.cost.tokens_prefilled > 45
    assert_same(result, run(vllm_tiny.twin(), "\n.b" * 15, **kw))


def test_no_memory_for_one_text_is_said():
    with vllm_tiny.new_engine(kv_cache_memory_bytes=1 << 16, max_length=64) as small:
        pool = small._core.scheduler.kv_cache_manager.block_pool
        held = pool.get_new_blocks(pool.get_num_free_blocks() - 1)
        with pytest.raises(EngineError, match="KV memory"):
            run(small, "ab" * 20, n=2, on_error="raise")
        pool.free_blocks(held)
        assert run(small, "ab" * 20, n=2).particles.lengths.min() > 0


def test_steer_lets_each_prompt_run_at_its_own_pace(engine):
    options = {"reward": TILT, "n_particles": 8, "step": 3, "max_tokens": 20, "key": 4}
    prompts = ["ab", "b" * 60, "a\n"]
    ours = smcgen.steer(prompts, model=engine, **options)
    theirs = smcgen.steer(prompts, model=vllm_tiny.twin(), **options)
    for a, b in zip(ours, theirs, strict=True):
        assert a.texts == b.texts
        np.testing.assert_allclose(a.weights, b.weights, atol=1e-3)


def test_an_llm_of_the_users_is_taken_over():
    from vllm import LLM, SamplingParams

    from smcgen.text.engines._vllm_env import in_process
    from smcgen.text.steer import as_engine

    options = {"dtype": "float32", "enforce_eager": True, "block_size": 32}
    with in_process():
        llm = LLM(str(vllm_tiny.folder()), async_scheduling=False, **options | vllm_tiny.SMALL)
    plain = {"sampling_params": SamplingParams(seed=1, max_tokens=9), "use_tqdm": False}
    before = llm.generate([{"prompt_token_ids": [0, 1]}], **plain)[0].outputs[0].token_ids
    taken = as_engine(llm)
    assert_same(run(taken, "ab"), run(vllm_tiny.twin(), "ab"))
    after = llm.generate([{"prompt_token_ids": [0, 1]}], **plain)[0].outputs[0].token_ids
    assert before == after
    for seed in (3, 4):  # more than once, and when what took it over is gone
        del taken
        gc.collect()
        taken = as_engine(llm)
        assert_same(run(taken, "ab", seed=seed), run(vllm_tiny.twin(), "ab", seed=seed))
    assert llm.generate([{"prompt_token_ids": [0, 1]}], use_tqdm=False)


def test_processes_of_later_engines_are_not_forked_from_one_with_cuda(monkeypatch):
    from vllm import envs

    from smcgen.text.engines._vllm_env import in_process

    name = "VLLM_WORKER_MULTIPROC_METHOD"
    monkeypatch.setenv(name, "fork")
    for there, method in ((False, "fork"), (True, "spawn")):
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda there=there: there)
        with in_process():
            pass
        assert getattr(envs, name) == method


def test_problems_in_threads_do_not_mix(engine):
    prompts = ["ab", "b" * 60, "a\n", ".", "ab.ab.", "bb"]
    together = [run(vllm_tiny.twin(), p, seed=i, step=3) for i, p in enumerate(prompts)]
    results: list = [None] * len(prompts)

    def work(i):
        results[i] = run(engine, prompts[i], seed=i, step=3)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(prompts))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, two in zip(results, together, strict=True):
        assert_same(one, two)
