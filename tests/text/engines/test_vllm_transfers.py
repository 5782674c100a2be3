"""Only tokens and log-weights leave the device: nothing as wide as the vocabulary does while tokens are drawn.

On a CPU the same calls are made, and move nothing; they are watched here.
"""

from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from smcgen.text import VLLM, Expert, Regex, Sampling, Step, Transformers
from smcgen.text._torch import store
from tests.text import vllm_tiny
from tests.text.vllm_tiny import SMALL, assert_same, run

pytestmark = [vllm_tiny.needs_vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
READS = ("cpu", "to", "numpy", "tolist", "item", "__array__", "__bool__", "__int__", "__float__")
TAPE = Path(__file__).parents[3] / "models" / "tape-policy"
N = 19  # rows: fewer than the vocabulary has tokens


@contextmanager
def watched(monkeypatch):
    """The shapes of all that draws bring to the host."""
    from smcgen.text.engines._vllm import drawing

    seen, depth = [], {"draw": 0, "elsewhere": 0}

    def inside(where, function):
        def call(*args, **kwargs):
            depth[where] += 1
            try:
                return function(*args, **kwargs)
            finally:
                depth[where] -= 1

        return call

    def told(name, function):
        def call(self, *args, **kwargs):
            host = name != "to" or "cpu" in (*args, *kwargs.values())  # else the engine's device
            if host and depth["draw"] and not depth["elsewhere"]:
                seen.append((name, tuple(self.shape)))
            return function(self, *args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in READS:
            patch.setattr(torch.Tensor, name, told(name, getattr(torch.Tensor, name)))
        for name in ("__call__", "tell"):
            patch.setattr(drawing.Drawing, name, inside("draw", getattr(drawing.Drawing, name)))
        # an expert's cache: on a GPU its lines are copied there
        patch.setattr(store, "copy_lines", inside("elsewhere", store.copy_lines))
        yield seen


@pytest.fixture(scope="module")
def engine():
    vllm_tiny.light()
    with VLLM(TAPE, **SMALL) as engine:
        yield engine


@pytest.fixture(scope="module")
def twin():
    return Transformers(TAPE)


LAWS = {
    "constrained": {"potential": Regex(r"[0-9+*=A:\n-]*")},
    "constrained, tempered": {"potential": Regex(r"[0-9=\n]*"), "sampling": Sampling(0.7)},
    "an expert": {"potential": Regex(r"[0-9=\n]*") * Expert(TAPE, 0.5)},
    "another proposal": {"proposal": Sampling(1.5)},
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("step", [1, Step(ess=0.5)], ids=["tokens", "ess"])
def test_nothing_as_wide_as_the_vocabulary(engine, twin, law, step, monkeypatch):
    options = {"n": N, "step": step, "tokens": 12, **LAWS[law]}
    with watched(monkeypatch) as seen:
        found = run(engine, "Q:47+86\n", **options)
    assert_same(found, run(twin, "Q:47+86\n", **options))
    assert {name for name, _ in seen} >= {"to", "numpy"}  # so that the watch means something
    assert max(max(shape, default=1) for _, shape in seen) <= N < engine.vocab_size
    assert max(int(np.prod(shape)) for _, shape in seen) <= 5 * N  # a token and its weights


def test_the_watch_sees_what_it_is_for(engine, monkeypatch):
    from smcgen.text.engines._vllm import drawing

    real = drawing._drawn

    def leaks(law, logits, *rest):
        logits.argmax(1).tolist()
        logits.cpu()
        return real(law, logits, *rest)

    monkeypatch.setattr(drawing, "_drawn", leaks)
    with watched(monkeypatch) as seen:
        engine._core._drawing.forget()
        run(engine, "Q:47+86\n", n=N, step=1, tokens=3)
    engine._core._drawing.forget()
    assert ("cpu", (N, engine.vocab_size)) in seen
    assert ("tolist", (N,)) in seen
