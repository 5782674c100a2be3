"""vLLM's V2 model runner, the default on GPUs: on a CPU, its Triton kernels interpreted.

In a process of its own, since vLLM looks for Triton when it is first imported.
"""

import os
import subprocess
import sys

import pytest

from tests.text import vllm_tiny

pytest.importorskip("triton")
pytestmark = [vllm_tiny.needs_vllm, pytest.mark.slow]

SCRIPT = """
from types import SimpleNamespace
from triton.backends import backends
backends["cpu"] = SimpleNamespace(driver=SimpleNamespace(is_active=lambda: True))  # what interprets is one
import torch
from smcgen.core.cost import Meter
from smcgen.text import FunctionReward, Regex, Sampling, Step
from smcgen.text._torch import recorded
from smcgen.text.engines.base import Law
from smcgen.text.engines._vllm.requests import Requests
from smcgen.text.engines._vllm.rows import V2Rows
from smcgen.text.prompts import encode
from smcgen.text.randomness import StepRandomness
from tests.text.vllm_tiny import assert_same, new_engine, run, twin
import jax
import numpy as np

calls = {}
def counted(owner, name):
    method = getattr(owner, name)
    def call(*arguments):
        calls[name] = calls.get(name, 0) + 1
        return method(*arguments)
    setattr(owner, name, call)

def record(work, pool):  # as a CUDA graph does: read the same buffers, write the same outputs
    out = work()
    calls["recorded"] = calls.get("recorded", 0) + 1
    return lambda: [old.copy_(new) for old, new in zip(out, work(), strict=True)], out

recorded.on_gpu, recorded.record, torch.cuda.graph_pool_handle = lambda device: True, record, lambda: None
counted(V2Rows, "rewrite")
counted(Requests, "_add")
steers = FunctionReward(lambda texts: [2.0 * t.count("a") - t.count(".") for t in texts])
engine = new_engine()
assert engine._core.scheduler.use_v2_model_runner
cases = [
    ({"step": 2}, 10),
    ({"step": 1, "sampling": Sampling(0.7, top_k=4, top_p=0.9)}, 8),
    ({"step": 2, "potential": Regex(r"([ab]+\\.)*") * steers}, 6),
]
for options, tokens in cases:
    options = {"potential": steers, "n": 8, "tokens": tokens, "ess_threshold": 1.0, **options}
    assert_same(run(engine, ["ab", "b.a"], **options), run(twin(), ["ab", "b.a"], **options))
prompts = [encode(engine.tokenizer, p) for p in ("b.a\\n", "b.a\\n" * 10)]
for _ in range(2):  # the second time a block is in the prefix cache, and not scored
    for scores in zip(*(e.score(prompts, [[0, 1, 2, 0, 3]] * 2) for e in (engine, twin())), strict=True):
        np.testing.assert_allclose(*scores, atol=1e-3)
behind = []
for e in (engine, twin()):
    session = e.open(prompts[1:], 2, Law(), Meter())
    session.extend(np.arange(2), Step(tokens=2), np.full(2, 9), StepRandomness(jax.random.key(0)[None], 2))
    behind.append(session.log_continue(np.arange(2), [[0, 1], [2, 3, 0]], np.zeros(2, dtype=bool)))
    session.close()
np.testing.assert_allclose(*behind, atol=1e-3)
engine.close()
# 16 texts a case begin as requests of their own; what resampling copies is rewritten where it stands
assert calls["rewrite"] > calls["_add"] - 16 * len(cases) > 0, calls
assert calls["recorded"] >= 3, calls  # draws with a constraint and without, and what copies need
"""


def test_the_texts_of_transformers_by_rewritten_requests():
    environment = os.environ | {"TRITON_INTERPRET": "1", "VLLM_USE_V2_MODEL_RUNNER": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
