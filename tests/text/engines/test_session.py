"""Draws, stops and batching of the transformers session."""

from typing import Any

import jax
import numpy as np
import pytest

from smcgen.core.cost import Meter
from smcgen.errors import SmcgenError
from smcgen.text.engines import Law
from smcgen.text.factors import Expert
from smcgen.text.randomness import StepRandomness
from smcgen.text.sampling import Sampling
from smcgen.text.steps import Step
from smcgen.text.texts import Finish
from tests.text._torch.tiny import VOCAB, recompute
from tests.text.engines.tokenizers import word_level
from tests.text.engines.toys import engine, prompt, small

A, B, C = prompt(5, 9, 11, 4, 8), prompt(7), prompt(3, 20, 31, 12, 9, 40, 41, 50)
ALL = lambda m: np.full(m, 10**6)


def _randomness(n: int, problems: list[int], step: int = 0) -> StepRandomness:
    """Keys as the core makes them: one per problem, whoever else runs."""
    keys = [jax.random.fold_in(jax.random.key(p), step) for p in problems]
    return StepRandomness(jax.numpy.stack(keys), n)


def _run(prompts, n, problems, steps=3, tokens=4, keep=None, ancestors=None):
    """Token ids of each row over several steps; `keep` rows go on after the first."""
    meter = Meter()
    session = engine().open(prompts, n, Law(), meter)
    rows = np.arange(len(prompts) * n)
    texts = [[] for _ in rows]
    for t in range(steps):
        got = session.extend(rows, Step(tokens=tokens), ALL(len(rows)), _randomness(n, problems, t))
        for i, row in enumerate(rows):
            texts[row] += got.tokens[i, : got.lengths[i]].tolist()
        rows = rows[got.finish == Finish.RUNNING]
        if ancestors is not None:
            session.take(ancestors)
            texts = [list(texts[a]) for a in ancestors]
            rows = np.flatnonzero(np.isin(ancestors, rows))
        if t == 0 and keep is not None:
            rows = np.intersect1d(rows, keep)
            session.drop(np.setdiff1d(np.arange(len(texts)), rows))
    session.close()
    return texts


def test_what_a_row_writes_does_not_depend_on_the_batch():
    alone = _run([A], 4, [0])
    assert _run([B, A, C], 4, [1, 0, 2])[4:8] == alone
    together = _run([B, A, C], 4, [1, 0, 2])
    assert together[:4] == _run([B], 4, [1])
    assert together[8:] == _run([C], 4, [2])
    half = np.arange(0, 12, 2)
    kept = _run([B, A, C], 4, [1, 0, 2], keep=half)
    assert [kept[i] for i in half] == [together[i] for i in half]
    # resampled between steps, alone or not
    ancestors = np.array([1, 1, 3, 0])
    apart = _run([A], 4, [0], ancestors=ancestors)
    mixed = _run([B, A], 4, [1, 0], ancestors=np.r_[[0, 1, 2, 2], ancestors + 4])
    assert mixed[4:] == apart


def test_log_probabilities_are_the_models_own():
    for law in (Sampling(), Sampling(temperature=0.7), Sampling(top_k=7)):
        session = engine().open([A, B], 3, Law(law), Meter())
        got = session.extend(np.arange(6), Step(tokens=5), ALL(6), _randomness(3, [0, 1]))
        for row in range(6):
            ids = got.tokens[row, : got.lengths[row]].tolist()
            start = (A, B)[row // 3].ids
            logits = (
                recompute(engine().model, [*start, *ids])[len(start) - 1 : -1] / law.temperature
            )
            if law.top_k:
                logits = np.where(logits < np.sort(logits)[:, -law.top_k, None], -np.inf, logits)
            logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
            want = logs[np.arange(len(ids)), ids].sum()
            np.testing.assert_allclose(got.log_base[row], want, atol=1e-4)
        np.testing.assert_array_equal(got.log_base, got.log_proposal)
        assert (got.log_factor == 0).all()
        again = engine().score(
            [A, B], [got.tokens[r, : got.lengths[r]].tolist() for r in range(6)], law
        )
        np.testing.assert_allclose([x.sum() for x in again], got.log_base, atol=1e-4)


def test_greedy_writes_the_most_likely_text():
    session = engine().open([A], 2, Law(Sampling(temperature=0)), Meter())
    got = session.extend(np.arange(2), Step(tokens=6), ALL(2), _randomness(2, [0]))
    ids = list(A.ids)
    for _ in range(int(got.lengths[0])):
        ids.append(int(recompute(engine().model, ids)[-1].argmax()))
    assert got.tokens[0, : got.lengths[0]].tolist() == ids[len(A.ids) :]
    assert (got.tokens[0] == got.tokens[1]).all()
    assert (got.log_base == 0).all()


def test_steps_stop_at_delimiters_budgets_functions_and_limits():
    tokenizer = word_level()
    open_ = lambda: engine().open([A], 16, Law(), Meter())
    rows, random = np.arange(16), _randomness(16, [0])
    free = open_().extend(rows, Step(tokens=40), ALL(16), random)
    word = int(free.tokens[0, 2])
    cut = open_().extend(
        rows, Step(delimiters=(tokenizer.convert_ids_to_tokens(word),)), ALL(16), random
    )
    asked = open_().extend(rows, Step(when=lambda ids: ids[-1] == word, on="ids"), ALL(16), random)
    texts = open_().extend(
        rows, Step(when=lambda text: text.split()[-1] == tokenizer.decode([word])), ALL(16), random
    )
    for row in rows:
        full = free.tokens[row, : free.lengths[row]].tolist()
        name = tokenizer.convert_ids_to_tokens(word)
        hits = [i for i, t in enumerate(full) if name in tokenizer.convert_ids_to_tokens(t)]
        if hits and len(full) == 40:
            assert cut.tokens[row, : cut.lengths[row]].tolist() == full[: hits[0] + 1]
            assert cut.finish[row] == Finish.RUNNING
        if word in full:
            want = full[: full.index(word) + 1]
            assert asked.tokens[row, : asked.lengths[row]].tolist() == want
            assert texts.tokens[row, : texts.lengths[row]].tolist() == want
    limits = np.arange(16)
    limited = open_().extend(rows, Step(tokens=9), limits, random)
    for row in rows:
        want = min(row, 9, free.lengths[row])
        assert limited.lengths[row] == want
        assert (limited.tokens[row, :want] == free.tokens[row, :want]).all()
        assert (limited.tokens[row, want:] == -1).all()
        if 0 in free.tokens[row, :want] or 2 in free.tokens[row, :want]:
            assert limited.finish[row] == Finish.EOS
        else:
            assert limited.finish[row] == (Finish.LENGTH if row <= 9 else Finish.RUNNING)
    last = open_().extend(rows, Step(tokens=2), ALL(16), random, last=True)
    assert set(last.finish[free.lengths > 2]) == {Finish.LENGTH}


def test_texts_end_with_eos_tokens_and_only_real_tokens_are_counted():
    meter = Meter()
    lm = small()
    session = lm.open([prompt(1, 2)], 200, Law(), meter)
    got = session.extend(np.arange(200), Step(tokens=12), ALL(200), _randomness(200, [0]))
    eos = got.finish == Finish.EOS
    assert eos.any()
    assert lm.eos_ids == {0}
    for row in range(200):
        ids = got.tokens[row, : got.lengths[row]].tolist()
        assert (0 in ids) == (ids[-1] == 0) == bool(eos[row])
    assert meter.read().tokens_generated == got.lengths.sum()
    assert meter.read().tokens_prefilled == 2


def test_the_models_length_limits_texts():
    lm = small()
    lm_limited = type(lm)(lm.model, lm.tokenizer, max_length=6)
    session = lm_limited.open([prompt(1, 2), prompt(1)], 50, Law(), Meter())
    got = session.extend(np.arange(100), Step(tokens=30), ALL(100), _randomness(50, [0, 1]))
    assert got.lengths[:50].max() == 4
    assert got.lengths[50:].max() == 5
    assert (got.finish != Finish.RUNNING).all()


def test_resumed_completions_go_on_as_if_they_had_never_stopped(monkeypatch: pytest.MonkeyPatch):
    from smcgen.text._torch import population

    monkeypatch.setattr(population, "LIMIT", 3)
    lm, rows = engine(), np.arange(8)
    session = lm.open([A, B], 4, Law(), Meter())
    steps = [Step(tokens=5), Step(delimiters=("w1",), tokens=5), Step(tokens=5)]
    first = session.extend(rows, steps[0], ALL(8), _randomness(4, [0, 1], 0))
    going = rows[first.finish == Finish.RUNNING]
    second = session.extend(going, steps[1], ALL(len(going)), _randomness(4, [0, 1], 1))
    texts = [first.tokens[r, : first.lengths[r]].tolist() for r in rows]
    for i, row in enumerate(going):
        texts[row] += second.tokens[i, : second.lengths[i]].tolist()
    going = going[second.finish == Finish.RUNNING]
    third = session.extend(going, steps[2], ALL(len(going)), _randomness(4, [0, 1], 2))
    meter = Meter()
    resumed = lm.open([A, B], 4, Law(), meter, texts)
    resumed.take(rows)
    again = resumed.extend(going, steps[2], ALL(len(going)), _randomness(4, [0, 1], 2))
    np.testing.assert_array_equal(again.tokens, third.tokens)
    np.testing.assert_allclose(again.log_base, third.log_base, atol=1e-4)
    read = sum(len(texts[r]) for r in going)
    assert meter.read().tokens_prefilled == len(A.ids) + len(B.ids) + read


def test_numbers_that_are_not_numbers_are_an_error():
    import copy

    import torch

    broken = copy.deepcopy(engine().model)
    lm = type(engine())(broken, word_level())
    with torch.no_grad():
        broken.get_output_embeddings().weight.fill_(float("nan"))
    session = lm.open([A], 2, Law(), Meter())
    with pytest.raises(SmcgenError, match="NaN"):
        session.extend(np.arange(2), Step(tokens=2), ALL(2), _randomness(2, [0]))


def test_scores_do_not_depend_on_the_batch():
    rng = np.random.default_rng(0)
    completions = [rng.integers(3, VOCAB, size).tolist() for size in (4, 0, 9, 1)]
    together = engine().score([A, C], completions)
    meter = Meter()
    for i, ids in enumerate(completions):
        alone = engine().score([(A, C)[i // 2]], [ids], meter=meter)[0]
        assert alone.shape == (len(ids),)
        np.testing.assert_allclose(together[i], alone, atol=1e-5)
        start = (A, C)[i // 2].ids
        logits = recompute(engine().model, [*start, *ids])[len(start) - 1 : -1]
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        np.testing.assert_allclose(alone, logs[np.arange(len(ids)), ids], atol=1e-4)
    assert meter.read().tokens_prefilled == sum(len(c) for c in completions) + 2 * (5 + 8)


def test_closing_frees_the_cache_and_the_factors():
    expert: Any = Expert(engine("llama").model)
    session = engine().open([A, B], 3, Law(factors=(expert,)), Meter())
    session.extend(np.arange(6), Step(tokens=2), ALL(6), _randomness(3, [0, 1]))
    held = [session._population, session._factors[0]._population]
    assert all(population.nbytes > 0 for population in held)
    session.close()
    assert all(population.nbytes == 0 for population in held)
