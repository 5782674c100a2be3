import numpy as np
import pytest
import torch
import transformers as tf

from smcgen.errors import InvalidArgument, ModelError
from smcgen.text._torch.population import Population
from tests.text._torch.tiny import ENDS, MODELS, VOCAB, model, recompute
from tests.text.build import build, encoder_decoder, recurrent


def _random_schedule(name: str, share: bool | None, seed: int, atol: float = 1e-4) -> Population:
    """Random feeds of random rows, takes and drops; every output against a full recomputation."""
    rng = np.random.default_rng(seed)
    lm = model(name)
    prompts = [rng.integers(3, VOCAB, size).tolist() for size in (7, 1, 0, 12, 7)]
    prompts[4] = prompts[0]  # two problems with one prompt
    n = 3
    population = Population(lm, prompts, n, block=8, share_prompt=share)
    texts: list[list[int] | None] = [list(prompts[i // n]) for i in range(len(prompts) * n)]
    checked = 0
    for _ in range(14):
        alive = np.flatnonzero([t is not None for t in texts])
        if len(alive) == 0:
            break
        rows = rng.permutation(alive)[: rng.integers(1, len(alive) + 1)]
        k = int(rng.integers(1, 5))
        tokens = rng.integers(3, VOCAB, (len(rows), k))
        counts = rng.integers(1, k + 1, len(rows))
        out = population.feed(rows, tokens, counts).numpy()
        for i, row in enumerate(rows):
            texts[row] = [*texts[row], *tokens[i, : counts[i]].tolist()]
            want = recompute(lm, texts[row])[-1]
            np.testing.assert_allclose(out[i], want, atol=atol * max(1, np.abs(want).max()))
            checked += 1
        what = rng.random()
        if what < 0.5:
            ancestors = np.concatenate([p * n + rng.integers(0, n, n) for p in range(len(prompts))])
            population.take(ancestors)
            texts = [texts[a] if texts[a] is None else list(texts[a]) for a in ancestors]
        elif what < 0.7:
            gone = rng.choice(alive, 2 if len(alive) > 2 else 1, replace=False)
            population.drop(gone)
            for row in gone:
                texts[row] = None
        lengths = [0 if t is None else len(t) for t in texts]
        np.testing.assert_array_equal(population.lengths, lengths)
    assert checked > 20
    return population


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("share", [None, False])
def test_any_schedule_equals_recomputation(name: str, share: bool | None):
    population = _random_schedule(name, share, seed=0)
    assert population.shared == (share is None and name != "gptj-own-attention")


@pytest.mark.parametrize("seed", range(1, 13))
def test_many_schedules(seed: int):
    _random_schedule("qwen2", None, seed, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close(dtype: torch.dtype):
    lm, reference = model("qwen2", dtype), model("qwen2")
    population = Population(lm, [[5, 9, 11], [4]], 2)
    out = population.feed(np.arange(4), np.array([[3, 8], [4, 9], [6, 7], [3, 3]]))
    want = recompute(reference, [4, 6, 7])[-1]
    assert out.dtype == dtype
    assert np.abs(out[2].float().numpy() - want).max() < 0.15 * np.abs(want).max()


def test_take_copies_only_what_changed():
    population = Population(model("qwen2"), [[5, 9, 11]], 8)
    rows = np.arange(8)
    population.take(rows)
    population.feed(rows, np.full((8, 1), 4))
    population.take(rows)
    assert population.copied_rows == 0
    population.take(np.array([0, 0, 2, 3, 3, 3, 6, 7]))  # 1, 4 and 5 are written over
    assert population.copied_rows == 3
    population.take(np.array([7, 6, 3, 3, 2, 2, 0, 0]))  # five texts left: 0 0 2 3 3 3 6 7
    assert population.copied_rows == 3 + 3
    population.take(np.array([1, 0, 3, 2, 5, 4, 7, 6]))  # a permutation moves names, not rows
    assert population.copied_rows == 6


def test_ended_rows_hold_nothing_and_can_be_refilled():
    lm = model("qwen2")
    population = Population(lm, [[5, 9, 11], [4, 8]], 2, block=4)
    population.feed(np.arange(4), np.array([[3, 4], [5, 6], [7, 8], [9, 10]]))
    before = population.nbytes
    population.drop(np.array([0, 2, 3]))
    assert population.alive.tolist() == [False, True, False, False]
    assert population.nbytes < before  # the second prompt is gone
    with pytest.raises(InvalidArgument, match="rows"):
        population.feed(np.array([0]), np.array([[3]]))
    population.take(np.array([1, 1, 2, 3]))
    out = population.feed(np.array([1, 0]), np.array([[12], [13]])).numpy()
    np.testing.assert_allclose(out[1], recompute(lm, [5, 9, 11, 5, 6, 13])[-1], atol=1e-4)


def test_prompts_are_read_once_and_stored_once():
    counts: list[int] = []
    prompts = [[5] * 40, [6] * 3, [5] * 40]
    shared = Population(model("qwen2"), prompts, 16, counts.append)
    assert sum(counts) == 43
    copied = Population(model("qwen2"), prompts, 16, share_prompt=False)
    assert shared.nbytes * 5 < copied.nbytes


@pytest.mark.parametrize("share", [True, False])
def test_outputs_can_be_read_anywhere(share: bool):
    lm = model("llama")
    population = Population(lm, [[5, 9]], 2, share_prompt=share)
    tokens = np.array([[3, 4, 5], [6, 7, 0]])
    whole = [recompute(lm, [5, 9, 3, 4, 5])[2:], recompute(lm, [5, 9, 6, 7])[2:]]
    read = np.array([[0, 2], [1, 0]])
    out = population.feed(np.array([0, 1]), tokens, np.array([3, 2]), read).numpy()
    np.testing.assert_allclose(out, [whole[0][[0, 2]], whole[1][[1, 0]]], atol=1e-4)
    population = Population(lm, [[5, 9]], 2, share_prompt=share)
    where = np.array([[True, True, False], [False, True, False]])
    out = population.feed(np.array([0, 1]), tokens, np.array([3, 2]), where).numpy()
    np.testing.assert_allclose(out, [whole[0][0], whole[0][1], whole[1][1]], atol=1e-4)
    population = Population(lm, [[5, 9]], 2, share_prompt=share)
    pairs = (np.array([1, 0]), np.array([1, 2]))
    out = population.feed(np.array([0, 1]), tokens, np.array([3, 2]), pairs).numpy()
    np.testing.assert_allclose(out, [whole[1][1], whole[0][2]], atol=1e-4)


def test_long_prompts_are_read_in_chunks(monkeypatch: pytest.MonkeyPatch):
    from smcgen.text._torch import prefill as module

    monkeypatch.setattr(module, "_CHUNK", 4)
    monkeypatch.setattr(module, "_ROWS", 2)
    lm = model("mistral-window")
    prompts = [[5, 9, 11, 4, 8, 7, 3, 6, 10], [4, 8], [9] * 6, [3, 5, 7, 9, 11]]
    out = Population(lm, prompts, 1).feed(np.arange(4), np.full((4, 1), 12)).numpy()
    for i, prompt in enumerate(prompts):
        np.testing.assert_allclose(out[i], recompute(lm, [*prompt, 12])[-1], atol=1e-4)


def test_the_users_model_is_left_as_it_was():
    lm = model("qwen2")
    ids = torch.tensor([[5, 9, 11, 4]])
    with torch.inference_mode():
        before, name = lm(ids).logits, lm.config._attn_implementation
        Population(lm, [[5, 9]], 2).feed(np.arange(2), np.array([[3], [4]]))
        assert torch.equal(lm(ids).logits, before)
        assert lm.config._attn_implementation == name
        lm.set_attn_implementation("smcgen")  # without a population it is sdpa
        try:
            padded = torch.tensor([[0, 0, 1, 1]])
            ours = lm(ids, attention_mask=padded).logits
            lm.set_attn_implementation("sdpa")
            assert torch.equal(lm(ids, attention_mask=padded).logits, ours)
        finally:
            lm.set_attn_implementation(name)


def test_heads_and_bodies():
    for kind in (tf.Qwen2ForTokenClassification, tf.Qwen2Model):
        lm = build(kind, VOCAB, **ENDS, num_labels=2)
        out = Population(lm, [[5, 9]], 2).feed(np.arange(2), np.array([[3], [4]])).numpy()
        np.testing.assert_allclose(out[1], recompute(lm, [5, 9, 4])[-1], atol=1e-4)
    lm = build(tf.Qwen2ForSequenceClassification, VOCAB, **ENDS, num_labels=2)
    out = Population(lm, [[5, 9]], 2).feed(np.arange(2), np.array([[3], [4]])).numpy()
    with torch.inference_mode():
        want = lm(torch.tensor([[5, 9, 4]])).logits[0].numpy()
    np.testing.assert_allclose(out[1], want, atol=1e-4)


def test_models_without_a_plain_cache_are_refused_by_name():
    with pytest.raises(ModelError, match="MambaForCausalLM.*recurrent"):
        Population(recurrent(VOCAB), [[5]], 1)
    with pytest.raises(ModelError, match="T5.*decoder-only"):
        Population(encoder_decoder(VOCAB), [[5]], 1)
    bloom = tf.BloomForCausalLM(
        tf.BloomConfig(vocab_size=VOCAB, hidden_size=16, n_layer=1, n_head=2)
    )
    with pytest.raises(ModelError, match="BloomForCausalLM"):
        Population(bloom, [[5]], 1)
    local = tf.GPTNeoConfig(
        vocab_size=VOCAB,
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        attention_types=[[["global", "local"], 1]],
        bos_token_id=1,
        eos_token_id=2,
    )
    with pytest.raises(ModelError, match="GPTNeoForCausalLM"):
        Population(tf.GPTNeoForCausalLM(local), [[5]], 1)


@pytest.mark.parametrize("share", [True, False])
def test_nothing_is_held_when_no_row_lives(share: bool):
    lm = model("qwen2")
    populations = [Population(lm, [[5, 9, 11], [4, 8]], 2, share_prompt=share) for _ in range(2)]
    for population in populations:
        population.feed(np.arange(4), np.array([[3, 4], [5, 6], [7, 8], [9, 10]]))
        assert population.nbytes > 0
    populations[0].close()
    populations[1].drop(np.array([0, 1]))
    populations[1].drop(np.array([2, 3]))
    for population in populations:
        assert population.nbytes == 0
        assert not population.alive.any()
        population.take(np.array([0, 0, 2, 2]))  # what is gone stays gone
        assert not population.alive.any()
        with pytest.raises(InvalidArgument, match="rows"):
            population.feed(np.array([0]), np.array([[3]]))
        population.close()  # a second time does no harm
