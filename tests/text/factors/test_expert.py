"""An expert's factor is its own next-token law, however rows were moved."""

from typing import Any

import numpy as np
import pytest
import torch
from transformers import LlamaForCausalLM, Qwen2ForCausalLM

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument
from smcgen.text.factors import Expert
from smcgen.text.factors.base import Setting
from smcgen.text.prompts import Prompt
from smcgen.text.sampling import Sampling
from tests.text.build import build
from tests.text.factors._vocab import EOS, char_tokenizer

TOKENIZER = char_tokenizer("abcd0-\n")  # 8 tokens
VOCAB = 11  # the policy's logits are wider


def tiny(vocab=8, seed=0, kind=LlamaForCausalLM, **kw):
    return build(kind, vocab, seed, initializer_range=0.4, **kw)


def start(factor, prompts, n, vocab=VOCAB, meter=None, **kw):
    prompts = [Prompt(tuple(p), "") for p in prompts]
    meter = meter or Meter()
    return factor.open_factor(
        Setting(prompts, n, TOKENIZER, vocab, frozenset({EOS}), "cpu", meter, **kw)
    )


@torch.inference_mode()
def law(model, ids):
    return model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)[:8].numpy()


@pytest.mark.parametrize("kind", [LlamaForCausalLM, Qwen2ForCausalLM])
@pytest.mark.parametrize(("strength", "width"), [(1.0, 8), (-0.5, 9)])
def test_equals_the_experts_law_after_any_schedule(kind, strength, width):
    rng = np.random.default_rng(0)
    model = tiny(width, kind=kind)
    prompts, n, meter = [[1, 2, 3], [4]], 4, Meter()
    session = start(Expert(model, strength), prompts, n, meter=meter)
    texts = [list(p) for p in prompts for _ in range(n)]
    pushed = 0
    alive = np.ones(8, bool)
    for _ in range(20):
        rows = rng.permutation(np.flatnonzero(alive))[: rng.integers(1, alive.sum() + 1)]
        phi = session.log_phi(rows).numpy()
        assert np.isneginf(phi[:, 8:]).all()
        wanted = np.stack([strength * law(model, texts[r]) for r in rows])
        np.testing.assert_allclose(phi[:, :8], wanted, atol=2e-4)
        np.testing.assert_array_equal(session.log_phi(rows).numpy(), phi)  # asking changes nothing
        for _ in range(rng.integers(1, 3)):
            tokens = rng.integers(1, 8, len(rows))
            session.push(rows, tokens)
            pushed += len(rows)
            for r, v in zip(rows, tokens, strict=True):
                texts[r].append(int(v))
        dropped = rng.choice(8, 1)
        session.drop(dropped)
        alive[dropped] = False
        candidates = [np.flatnonzero(alive & (np.arange(8) // n == p)) for p in range(2)]
        candidates = [c if len(c) else np.arange(4) + 4 * p for p, c in enumerate(candidates)]
        ancestors = np.concatenate([rng.choice(c, n) for c in candidates])
        session.take(ancestors)
        texts, alive = [list(texts[a]) for a in ancestors], alive[ancestors]
    assert meter.read().reward_tokens <= 2 + 8 + pushed + 8 * 2 * 20
    assert session.log_cut(np.arange(8)).tolist() == [0] * 8


def test_each_token_is_read_once():
    meter = Meter()
    session = start(Expert(tiny()), [[1, 2, 3]], 3, meter=meter)
    assert meter.read().reward_tokens == 2  # all but the last token of a prompt, once for its rows
    for _ in range(4):
        session.log_phi(np.arange(3))
        session.push(np.arange(3), np.asarray([1, 2, 3]))
    assert meter.read().reward_tokens == 2 + 3 * 4  # the tokens pushed last are not needed yet


def test_completions_resume():
    model = tiny()
    completions = [[1, 2], [], [3, 4] * 20]
    session = start(Expert(model), [[5]], 3, completions=completions)
    phi = session.log_phi(np.arange(3)).numpy()[:, :8]
    np.testing.assert_allclose(phi, np.stack([law(model, [5, *c]) for c in completions]), atol=2e-4)


def test_power_prompt_and_sampling():
    model = tiny()
    expert = Expert(model, prompt=lambda p: [7, *p.ids]) ** -0.5
    assert isinstance(expert, Expert)
    assert expert.strength == -0.5
    assert expert.model is model
    phi = start(expert, [[1]], 1).log_phi(np.asarray([0])).numpy()[0, :8]
    np.testing.assert_allclose(phi, -0.5 * law(model, [7, 1]), atol=1e-5)
    text = start(Expert(model, prompt="ab"), [[1]], 1).log_phi(np.asarray([0])).numpy()[0, :8]
    np.testing.assert_allclose(text, law(model, [1, 2]), atol=1e-5)
    top = start(Expert(model, sampling=Sampling(top_k=2)), [[1]], 1).log_phi(np.asarray([0]))
    assert int(torch.isfinite(top).sum()) == 2
    none = start(Expert(model, 0.0, sampling=Sampling(top_k=2)), [[1]], 1).log_phi(np.asarray([0]))
    assert none[0, :8].tolist() == [0] * 8


def test_saved_models_load(tmp_path):
    model = tiny(eos_token_id=EOS)
    model.save_pretrained(tmp_path)
    TOKENIZER.save_pretrained(tmp_path)
    session = start(Expert(tmp_path), [[1, 2]], 1)
    phi = session.log_phi(np.asarray([0])).numpy()[0, :8]
    np.testing.assert_allclose(phi, law(model, [1, 2]), atol=1e-5)


def test_vocabularies_must_agree():
    with pytest.raises(InvalidArgument, match="expert with 6 tokens"):
        start(Expert(tiny(6)), [[1]], 1)
    other = char_tokenizer("abdc0-\n")
    with pytest.raises(InvalidArgument, match="differ first at id 3, 'c'"):
        start(Expert(tiny(), tokenizer=other), [[1]], 1)
    same = char_tokenizer("abcd0-\n")
    start(Expert(tiny(), tokenizer=same), [[1]], 1)


@pytest.mark.parametrize(
    "kwargs", [{"strength": float("nan")}, {"strength": -1.0, "sampling": Sampling(top_p=0.9)}]
)
def test_bad_arguments(kwargs):
    with pytest.raises(InvalidArgument):
        Expert(tiny(), **kwargs)


def test_closing_frees_the_cache():
    session: Any = start(Expert(tiny()), [[1, 2, 3]], 2)
    session.log_phi(np.arange(2))
    assert session._population.nbytes > 0
    session.close()
    assert session._population.nbytes == 0
    assert session._logits is None
