"""LLaDA2-style pipelines: the pipeline's own texts where it is deterministic, windows, prompts, bad input."""

import jax
import numpy as np
import pytest
import torch
from diffusers import BlockRefinementScheduler, LLaDA2Pipeline
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import BertConfig, BertForMaskedLM, PreTrainedTokenizerFast

from smcgen.diffusion import steer
from smcgen.diffusion.pipelines import from_pipeline
from smcgen.errors import InvalidArgument

LETTERS = "abcdefgh"
BLOCKS = {"gen_length": 8, "block_length": 4, "num_inference_steps": 3, "use_chat_template": False}


@pytest.fixture(scope="module")
def pipe():
    vocab = {token: i for i, token in enumerate([*LETTERS, "<mask>", "<eos>"])}
    core = Tokenizer(models.WordLevel(vocab=vocab, unk_token="<mask>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, mask_token="<mask>", eos_token="<eos>", pad_token="<eos>"
    )
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    config = BertConfig(vocab_size=10, num_attention_heads=2, initializer_range=0.7, **shape)
    model = BertForMaskedLM(config).eval()
    with torch.no_grad():  # the pipeline would write the mask itself if the network said so
        model.cls.predictions.decoder.bias[vocab["<mask>"]] = -100.0
    pipe = LLaDA2Pipeline(model, BlockRefinementScheduler(block_length=4), tokenizer)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("prompts", [["abcd", "hgfe"], ["abcdefgh"]])
def test_greedy_texts_are_the_pipelines_own(pipe, prompts):
    """Two blocks of four after the prompt, three steps each: two tokens, one, one."""
    kernel = from_pipeline(pipe, prompts, temperature=0.0, **BLOCKS)
    key, problem = jax.random.key(0), np.arange(len(prompts))
    x = kernel.draw_prior(key, len(prompts))
    for t in range(1, kernel.num_steps + 1):
        with torch.no_grad():
            x = kernel.draw(key, t, x, kernel.predict(t - 1, x, problem, None))
    ours = x[:, len(prompts[0]) :]
    theirs = pipe(
        prompts,
        temperature=0.0,
        threshold=2.0,  # none: the scheduled number of tokens
        editing_threshold=None,
        eos_early_stop=False,
        output_type="seq",
        **BLOCKS,
    ).sequences
    np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    assert len({tuple(row) for row in ours.tolist()}) == len(prompts)


@pytest.mark.slow
def test_the_network_never_sees_what_comes_after(pipe, monkeypatch):
    widths, forward = [], pipe.model.forward
    seen = lambda ids, **k: widths.append(ids.shape) or forward(ids, **k)
    monkeypatch.setattr(pipe.model, "forward", seen)
    result = steer(pipe, lambda texts: [0.0] * len(texts), prompt="abcdef", n_particles=2, **BLOCKS)
    # blocks begin at 4, 8 and 12; in the first of them the prompt has two places
    assert widths == [(2, 8)] * 3 + [(2, 12)] * 3 + [(2, 16)] * 3
    assert all(len(text) <= 8 and "<" not in text for text in result.samples)
    assert result.cost.nfe == 2 * 9


def test_only_the_current_block_is_kept(pipe):
    """Logits of four positions of sixteen; a look ahead sees the text end after them."""
    kernel = from_pipeline(pipe, ["abcdef", "hgf"], **BLOCKS)
    x, key, problem = (
        kernel.draw_prior(jax.random.key(0), 4),
        jax.random.key(1),
        np.array([0, 0, 1, 1]),
    )
    end, unmasked = kernel.ahead, 0
    assert end == pipe.eos_token_id
    for t in range(1, kernel.num_steps + 1):
        first = 4 + 4 * ((t - 1) // 3)
        with torch.no_grad():
            prediction = kernel.predict(t - 1, x, problem, None)
        assert prediction.logits.shape == (4, 4, 10)
        best = kernel.data(t - 1, x, prediction)
        drawn = kernel.draw_data(key, t - 1, x, prediction, 2).reshape(4, 2, -1)
        masks = x == kernel.mask_id
        for guess in (best, drawn[:, 0], drawn[:, 1]):
            assert torch.equal(guess[~masks], x[~masks])
            assert not torch.any(guess == kernel.mask_id)
            assert torch.all(guess[:, first + 4 :] == end)
        own, most = masks[:, first : first + 4], prediction.logits.argmax(-1)
        assert torch.equal(best[:, first : first + 4][own], most[own])
        new = kernel.draw(key, t, x, prediction)
        assert torch.equal(new[:, :first], x[:, :first])
        assert torch.equal(new[:, first + 4 :], x[:, first + 4 :])
        log_p = kernel.log_prob(t, x, prediction, new)
        laws = prediction.logits.double().log_softmax(-1)
        changed = (new != x)[:, first : first + 4]
        of_tokens = laws.gather(-1, new[:, first : first + 4, None])[..., 0]
        np.testing.assert_allclose(log_p, torch.where(changed, of_tokens, 0).sum(1), rtol=1e-5)
        x, unmasked = new, unmasked + int(changed.sum())
    assert unmasked == 4 * 8


@pytest.mark.slow
def test_prompts_of_different_length_are_steered_together(pipe):
    """Padding on the left is not attended, and a reward sees texts and its own prompts."""
    asked = []

    def letters(texts, prompts):
        asked.extend(prompts)
        return [float(sum(text.count(c) for c in set(p))) for text, p in zip(texts, prompts, strict=True)]  # fmt: skip

    options = {"n_particles": 4, "strength": 4.0, "draws": 2, "denoiser_batch_size": 3, **BLOCKS}
    both = steer(pipe, letters, prompt=["ab", "abcd"], **options)
    plain = steer(pipe, letters, prompt=["ab", "abcd"], **{**options, "strength": 0.0})
    assert set(asked) == {"ab", "abcd"}
    assert [r.prompt for r in both] == ["ab", "abcd"]
    assert sum(r.rewards.mean() for r in both) > sum(r.rewards.mean() for r in plain)
    for r in both:
        assert r.rewards.tolist() == letters(r.samples, [r.prompt] * 4)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"temperature": 0.0}, "temperature > 0"),
        ({"eta": 1.0}, "eta=1.0.*temperature"),
        ({"threshold": 0.7}, "threshold=0.7.*gen_length"),
        ({"gen_length": 0}, "gen_length=0"),
        ({"prompt": None}, "prompt=None"),
    ],
)
def test_bad_input(pipe, options, said, unchecked):
    with pytest.raises(InvalidArgument, match=said):
        steer(pipe, len, **{"prompt": "abcd", **BLOCKS, **options})
