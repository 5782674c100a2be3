"""Tiny real models that vLLM can run (its CPU attention wants heads of 32), and engines on them."""

import functools
import gc
import importlib.util
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from smcgen.core.smc import smc
from smcgen.text import FunctionReward, TextModel
from smcgen.text.engines.transformers import Transformers
from tests.text import tiny

needs_vllm = pytest.mark.skipif(
    importlib.util.find_spec("vllm") is None, reason="vLLM is not installed (make vllm)"
)
SMALL: dict[str, Any] = {"kv_cache_memory_bytes": 1 << 26}
GRAPHS: dict[str, Any] = {}
if torch.cuda.is_available():
    # vLLM would want nearly all of the GPU to be free, and run in half precision; its attention, in TF32
    os.environ.setdefault("TRITON_F32_DEFAULT", "ieee")
    SMALL |= {"gpu_memory_utilization": 0.05, "dtype": "float32", "enforce_eager": True}
    graphs = {"mode": 0, "cudagraph_mode": "FULL_DECODE_ONLY"}  # without a compiler, see `light`
    GRAPHS |= {"enforce_eager": False, "compilation_config": graphs}


@functools.cache
def llama(seed: int = 0, vocab_size: int = len(tiny.CHARACTERS) + 1) -> Any:
    """A Llama with one key-value head of 32 and logits wide enough to be interesting."""
    shape = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2}
    return tiny.new_llama(seed, vocab_size, 8.0, **shape)


@functools.cache
def folder(seed: int = 0) -> Path:
    """The model and its tokenizer on disk, until the process ends."""
    holder = tempfile.TemporaryDirectory()
    folder._holders = [*getattr(folder, "_holders", []), holder]  # type: ignore[attr-defined]
    path = Path(holder.name)
    llama(seed).save_pretrained(path)
    tiny.tokenizer().save_pretrained(path)
    return path


@functools.cache
def light() -> None:
    """Engines of this process are built and closed without a look through all that torch, JAX and vLLM hold.

    vLLM collects garbage six times for an engine, and each time Python goes through a million objects that stay. Here
    they are frozen for good, now and when the first engine is there; vLLM would thaw them with every engine that ends.
    """
    import torch._dynamo
    from vllm.v1.engine import core

    # Seconds of compiling for a comparison and a sum, here and in servers.
    torch._dynamo.config.disable = True
    os.environ["TORCHDYNAMO_DISABLE"] = "1"
    core.freeze_gc_heap = functools.cache(gc.freeze)
    gc.freeze()
    gc.freeze = gc.unfreeze = lambda: None


@functools.cache
def engine(seed: int = 0) -> Any:
    """A vLLM engine that tests share."""
    return new_engine(seed)


def new_engine(seed: int = 0, **options: Any) -> Any:
    """A vLLM engine of a test's own; close it."""
    from smcgen.text.engines.vllm import VLLM

    with warnings.catch_warnings():  # importing and building vLLM is full of deprecations
        warnings.simplefilter("ignore")
        light()
        options = SMALL | GRAPHS | {"max_num_seqs": 128} | options
        return VLLM(folder(seed), **options)


@functools.cache
def twin(seed: int = 0) -> Transformers:
    """The same model on transformers."""
    return Transformers(llama(seed), tiny.tokenizer())


TILT = FunctionReward(lambda texts: [0.6 * t.count("a") - 0.3 * t.count(".") for t in texts])


def run(
    engine: Any,
    prompt: Any,
    step: Any = 1,
    potential: Any = TILT,
    n=16,
    seed=0,
    tokens=24,
    **options,
):
    fields = {k: options.pop(k) for k in ("sampling", "proposal") if k in options}
    model = TextModel(engine, prompt, potential, step, max_tokens=tokens, **fields)
    return smc(model, seed, n, keep="particles", **{"on_error": "return", **options})


def assert_same(one, two, exact=False):
    """The same texts with the same weights (to rounding, if computed on another engine)."""
    assert one.particles.tokens(0) == two.particles.tokens(0)
    np.testing.assert_array_equal(one.particles.ids, two.particles.ids)
    np.testing.assert_array_equal(one.particles.finish, two.particles.finish)
    tolerance = 0 if exact else 1e-3
    np.testing.assert_allclose(one.log_evidence, two.log_evidence, atol=tolerance)
    np.testing.assert_allclose(one.log_weights, two.log_weights, atol=tolerance)
