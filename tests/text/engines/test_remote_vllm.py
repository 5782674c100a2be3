"""`Remote` on a real vLLM server and `VLLMRequests` on an engine core in another process, against `Transformers`."""

import os
import signal
import warnings
from collections import Counter
from typing import Any

import jax
import numpy as np
import pytest

from smcgen.core.cost import Meter
from smcgen.core.smc import smc
from smcgen.errors import EngineError, InvalidArgument
from smcgen.text.engines import Law
from smcgen.text.model import TextModel
from smcgen.text.potentials.tilt import Tilt
from smcgen.text.prompts import Prompt
from smcgen.text.randomness import StepRandomness
from smcgen.text.rewards import FunctionReward
from smcgen.text.sampling import Sampling
from smcgen.text.steps import Step
from tests.laws import assert_law
from tests.text import tiny, vllm_tiny
from tests.text.toy import EOS
from tests.text.vllm_server import processes, vllm_server

pytestmark = [vllm_tiny.needs_vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
PROMPTS = [Prompt((0,), "a"), Prompt((0, 1, 2), "ab.")]
LAWS = [Sampling(), Sampling(0.7), Sampling(top_k=3), Sampling(1.2, top_p=0.8), Sampling(0.0)]


@pytest.fixture(scope="module")
def remote(tmp_path_factory):
    pytest.importorskip("httpx")
    from smcgen.text.engines.remote import Remote

    log = tmp_path_factory.mktemp("server") / "log"
    with vllm_server(vllm_tiny.folder(), log, "--logprobs-mode", "processed_logprobs") as url:
        yield Remote(url, tokenizer=tiny.tokenizer())


class Cores:
    """Makes LLMs whose engine core is in another process, and knows the process of the latest."""

    def __init__(self):
        self.made = 0

    def __call__(self):
        from vllm import LLM

        self.made += 1
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.llm: Any = LLM(
                str(vllm_tiny.folder()),
                dtype="float32",
                max_model_len=128,
                block_size=32,
                max_num_seqs=64,
                kv_cache_memory_bytes=1 << 26,
                enforce_eager=True,
                logprobs_mode="processed_logprobs",
                disable_log_stats=True,
            )
        return self.llm

    def kill(self, noticed: bool = True) -> None:
        core = self.llm.llm_engine.engine_core
        for process in core.resources.engine_manager.processes:
            os.kill(process.pid, signal.SIGKILL)
            process.join(20)
        if not noticed:  # vLLM's client looks once, before it asks
            core.ensure_alive = lambda: None


@pytest.fixture(scope="module")
def cores():
    return Cores()


@pytest.fixture(scope="module")
def llm(cores):
    from vllm.v1.engine import utils

    from smcgen.text.engines._llm import VLLMRequests

    vllm_tiny.light()
    with pytest.MonkeyPatch.context() as patch:
        # yes; at "1" itself the core on a CPU would have its worker in one process more
        patch.setenv("VLLM_ENABLE_V1_MULTIPROCESSING", "2")
        patch.setattr(utils, "get_mp_context", processes)
        yield VLLMRequests(cores, tiny.tokenizer())
        cores.llm.llm_engine.engine_core.shutdown()


@pytest.fixture(params=["remote", "llm"])
def engine(request):
    return request.getfixturevalue(request.param)


def write(engine, n=6, step=Step(tokens=5), law=Law(), prompts=PROMPTS, seed=0):
    session = engine.open(prompts, n, law, Meter())
    rows = np.arange(len(prompts) * n)
    keys = jax.random.split(jax.random.key(seed), len(prompts))
    return session.extend(rows, step, np.full(len(rows), 40), StepRandomness(keys, n))


def texts_of(got):
    return [got.tokens[r, : got.lengths[r]].tolist() for r in range(len(got.lengths))]


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_log_probabilities_are_those_of_transformers(engine, law):
    got = write(engine, law=Law(law))
    want = [x.sum() for x in vllm_tiny.twin().score(PROMPTS, texts_of(got), law)]
    np.testing.assert_allclose(got.log_base, want, atol=1e-3)


def test_scores_and_proposals(engine):
    got = write(engine, law=Law(proposal=Sampling(1.5)))
    own = vllm_tiny.twin().score(PROMPTS, texts_of(got))
    drawn = vllm_tiny.twin().score(PROMPTS, texts_of(got), Sampling(1.5))
    np.testing.assert_allclose(got.log_base, [x.sum() for x in own], atol=1e-3)
    np.testing.assert_allclose(got.log_proposal, [x.sum() for x in drawn], atol=1e-3)
    scores = engine.score(PROMPTS, texts_of(got))
    np.testing.assert_allclose(np.concatenate(scores), np.concatenate(own), atol=1e-3)


@pytest.mark.parametrize("step", [Step(delimiters=(".\n", "b")), Step(when=lambda t: "b" in t)])
def test_steps_of_the_law(engine, step):
    """Texts of two tokens, written in steps, are as likely as the model says."""
    own, n, prompt = vllm_tiny.twin(), 600, PROMPTS[:1]
    model = TextModel(engine, list(prompt[0].ids), None, step, None, 2)
    run = smc(model, 3, n)
    counts = Counter(tuple(run.particles.tokens(r)) for r in range(n))
    texts = [(EOS,), *((v, w) for v in range(EOS) for w in range(EOS + 1))]
    law = np.exp([own.score(prompt, [list(ids)])[0].sum() for ids in texts])
    np.testing.assert_allclose(law.sum(), 1.0, atol=1e-4)
    assert_law(np.array([counts[ids] for ids in texts]), law)


def test_a_seed_fixes_the_texts_whatever_the_batch(engine):
    texts = texts_of(write(engine))
    assert texts_of(write(engine)) == texts
    session, rows = engine.open(PROMPTS, 6, Law(), Meter()), np.arange(6)
    keys = jax.random.split(jax.random.key(0), 2)
    alone = session.extend(rows, Step(tokens=5), np.full(6, 40), StepRandomness(keys, 6))
    assert texts_of(alone) == texts[:6]


def test_a_server_knows_its_copies_and_log_probabilities(remote):
    assert remote._probe.children
    assert remote._probe.processed
    with pytest.raises(InvalidArgument, match="tokenizer"):
        write(type(remote)(remote._client.url, tokenizer=tiny.tokenizer("ba.\n")))


def test_a_dead_engine_core_is_started_again_and_the_texts_are_the_same(llm, cores):
    killed = []

    def steps(engine, at=None):
        calls = Counter()

        def rewarded(texts):
            calls["steps"] += 1
            if calls["steps"] == at:
                cores.kill(noticed=False)
                killed.append(at)
            return [0.5 * t.count("a") for t in texts]

        tilt = Tilt(FunctionReward(rewarded))
        model = TextModel(engine, ["a", "ab."], tilt, 4, 6, 24)
        return smc(model, 1, 8, ess_threshold=0.9)

    whole = steps(llm)
    made = cores.made
    broken = steps(llm, at=3)
    assert killed == [3]
    assert cores.made == made + 1
    assert broken.particles.ids.tolist() == whole.particles.ids.tolist()
    np.testing.assert_allclose(broken.log_evidence, whole.log_evidence, rtol=1e-5)
    llm._core._make, make = None, llm._core._make
    cores.kill()
    with pytest.raises(EngineError, match="died.*pass a function"):
        write(llm)
    llm._core._make = make
