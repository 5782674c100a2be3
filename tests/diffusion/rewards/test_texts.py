"""Rewards of texts: each text as it would be scored alone, forms, and rewards of `smcgen.text`."""

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from smcgen.diffusion import Masked, Matches, Perplexity, TextReward, steer
from smcgen.diffusion.backends.torch import Torch
from smcgen.errors import InvalidArgument
from smcgen.text import Choice, FunctionReward, Regex

LETTERS = "abcde"
MASK = len(LETTERS)


@pytest.fixture(scope="module")
def tokenizer():
    vocab = {token: i for i, token in enumerate([*LETTERS, "<mask>", "<s>"])}
    core = Tokenizer(models.WordLevel(vocab=vocab, unk_token="<mask>"))
    core.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    core.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(tokenizer_object=core, mask_token="<mask>", bos_token="<s>")


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    shape = {"hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
    config = LlamaConfig(vocab_size=7, num_attention_heads=2, initializer_range=0.7, **shape)
    return LlamaForCausalLM(config).eval()


def by_hand(model, tokenizer, text):
    """log p of each character, one forward pass for each."""
    ids = [tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]
    logs = []
    for i in range(1, len(ids)):
        with torch.no_grad():
            law = model(input_ids=torch.tensor([ids[:i]])).logits[0, -1].double().log_softmax(-1)
        logs.append(law[ids[i]].item())
    return np.array(logs)


def test_perplexity(model, tokenizer):
    texts = ["abc", "e", "", "ddaabbe"]
    each = [by_hand(model, tokenizer, text) for text in texts]
    for size in (1, 3, 32):  # padding changes nothing
        mean = Perplexity(model, tokenizer, batch_size=size)(texts)
        total = Perplexity(model, tokenizer, per="text", batch_size=size)(texts)
        np.testing.assert_allclose(mean, [e.mean() if len(e) else 0.0 for e in each], atol=1e-5)
        np.testing.assert_allclose(total, [e.sum() for e in each], atol=1e-5)


def test_perplexity_without_a_beginning(model, tokenizer):
    """The first token then has no law, and does not count."""
    bare = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer)
    ids = bare.encode("abc")
    with torch.no_grad():
        law = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
    wanted = (law[0, ids[1]] + law[1, ids[2]]).item() / 2
    np.testing.assert_allclose(Perplexity(model, bare)(["abc"]), [wanted], atol=1e-5)


def test_perplexity_by_folder(model, tokenizer, tmp_path):
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = Perplexity(tmp_path, device="cpu", dtype=torch.float32)
    np.testing.assert_allclose(
        loaded(["abc", "de"]), Perplexity(model, tokenizer)(["abc", "de"]), atol=1e-5
    )


@pytest.mark.parametrize(
    "form", ["ab*", Regex("ab*"), Choice(["a", "ab", "abb"])], ids=["str", "Regex", "Choice"]
)
def test_matches(form):
    texts = ["a", "abb", "ba", "abc", "", "aab"]
    if not isinstance(form, str):
        pytest.importorskip("xgrammar")
    assert Matches(form)(texts).tolist() == [1, 1, 0, 0, 0, 0]
    assert Matches(form, hard=True)(texts).tolist() == [0, 0, *[-np.inf] * 4]


def network(x, time):
    return torch.zeros(*x.shape, MASK + 1)


def test_what_does_not_match_has_no_weight(tokenizer):
    """Without a look before the end the evidence is the share of samples that match."""
    decoder = lambda ids: tokenizer.batch_decode(ids)
    kernel = Masked(network, 3, MASK, steps=3, decoder=decoder, backend=Torch())
    result = steer(kernel, Matches("[abc].*", hard=True), n_particles=8, twist=None)
    fits = np.array([text[0] in "abc" for text in result.samples])
    assert 0 < fits.sum() < 8
    np.testing.assert_allclose(result.weights, fits / fits.sum(), atol=1e-6)
    assert result.log_evidence == pytest.approx(np.log(fits.mean()), abs=1e-6)


@pytest.mark.slow
def test_rewards_of_smcgen_text(tokenizer):
    """The prompt on the canvas is no part of the text, and each text goes with its own prompt."""
    seen = {}

    def share(prompts, texts):
        seen.update(zip(texts, prompts, strict=True))
        return [(1 + text.count(p)) / 9 for p, text in zip(prompts, texts, strict=True)]

    inner = FunctionReward(share, probability=True, prompts=True)
    canvas = [[0, MASK, MASK, MASK], [1, MASK, MASK, MASK]]
    kernel = Masked(network, canvas, MASK, steps=3, backend=Torch())
    rewards = TextReward(inner, tokenizer, prompts=["a", "b"], skip=1)
    rng = np.random.default_rng(0)
    data = torch.from_numpy(rng.integers(0, MASK, (4, 4)))
    found = rewards(data, np.array([0, 0, 1, 1]), None)
    texts = tokenizer.batch_decode(data[:, 1:])
    wanted = [(1 + t.count(p)) / 9 for t, p in zip(texts, "aabb", strict=True)]
    np.testing.assert_allclose(found, np.log(wanted))
    assert all(len(text) == 3 for text in seen)
    raw = TextReward(inner, tokenizer, prompts=["a", "b"], skip=1, log=False)
    np.testing.assert_allclose(raw(data, np.array([0, 0, 1, 1]), None), wanted)
    both = steer(kernel, rewards, n_particles=4, strength=2.0)
    assert all(np.isfinite(r.rewards).all() for r in both)


def test_bad_arguments(model, unchecked):
    with pytest.raises(InvalidArgument, match="form='\\(a'.*regular expression"):
        Matches("(a")
    with pytest.raises(InvalidArgument, match="tokenizer"):
        Perplexity(model)
    with pytest.raises(InvalidArgument, match="per='word'"):
        Perplexity(model, per="word")
    with pytest.raises(InvalidArgument, match="no/such"):
        Perplexity("no/such")
