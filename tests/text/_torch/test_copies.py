"""Copying only the columns that differ is copying everything; and it is little."""

from typing import Any

import numpy as np
import pytest
import torch

from smcgen.errors import InvalidArgument
from smcgen.text._torch import population as population_module
from smcgen.text._torch.moves import landing
from smcgen.text._torch.population import Population
from smcgen.text._torch.ragged import padded
from smcgen.text._torch.stamps import Stamps
from smcgen.text._torch.store import copy_lines
from tests.text._torch.tiny import VOCAB, model, recompute

PROMPTS, N = [[5, 9, 11, 4, 8], [7], [3, 20, 31, 12, 9, 40, 41], [7]], 4
ROWS = len(PROMPTS) * N


def _schedule(seed: int, share: bool | None, block: int = 8) -> tuple[list, list, Population]:
    """Ragged feeds of many rows with a `take` or a `drop` after most: outputs, texts, population."""
    rng = np.random.default_rng(seed)
    population = Population(model("qwen2"), PROMPTS, N, block=block, share_prompt=share)
    texts: list[Any] = [list(PROMPTS[i // N]) for i in range(ROWS)]
    outputs = []
    for t in range(30):
        alive = np.flatnonzero([text is not None for text in texts])
        some = len(alive) if rng.random() < 0.7 else rng.integers(1, len(alive) + 1)
        rows = rng.permutation(alive)[:some]
        lists = [rng.integers(3, VOCAB, rng.integers(1, 4)).tolist() for _ in rows]
        outputs.append(population.append(rows, lists, limit=2))
        for row, ids in zip(rows, lists, strict=True):
            texts[row] = texts[row] + ids
        if rng.random() < 0.8:  # few parents: families share most of their texts
            parents = np.sort(rng.integers(0, N, (len(PROMPTS), N)), axis=1)
            ancestors = (parents + N * np.arange(len(PROMPTS))[:, None]).ravel()
            population.take(ancestors)
            texts = [texts[a] for a in ancestors]
        elif len(alive) > 6:
            gone = rng.choice(alive, 1 + t % 2, replace=False)
            population.drop(gone)
            texts = [None if i in gone else text for i, text in enumerate(texts)]
    return outputs, texts, population


def _everything(self: Stamps, into: np.ndarray, of: np.ndarray, ends: np.ndarray) -> Any:
    return np.nonzero(np.arange(int(ends.max(initial=0))) < ends[:, None])


@pytest.mark.slow
@pytest.mark.parametrize("share", [None, False])
@pytest.mark.parametrize("seed", range(4))
def test_copying_less_changes_nothing(
    seed: int, share: bool | None, monkeypatch: pytest.MonkeyPatch
):
    outputs, texts, population = _schedule(seed, share)
    rows = population.alive.nonzero()[0]
    last = population.feed(rows, np.full((len(rows), 1), 6)).numpy()
    for i, row in enumerate(rows):
        want = recompute(model("qwen2"), [*texts[row], 6])[-1]
        np.testing.assert_allclose(last[i], want, atol=1e-4 * max(1, np.abs(want).max()))
    monkeypatch.setattr(Stamps, "missing", _everything)
    whole, same_texts, other = _schedule(seed, share)
    assert same_texts == texts
    assert all(torch.equal(a, b) for a, b in zip(outputs, whole, strict=True))
    assert population.copied_rows == other.copied_rows > 20
    assert population.copied_columns < 0.9 * other.copied_columns


def test_a_fork_costs_what_came_after_the_last_one():
    population = Population(model("qwen2"), [[5, 9]], 3)
    rows, one = np.arange(3), np.full((3, 1), 4)
    population.feed(rows, np.full((3, 10), 4))
    population.take(np.array([0, 0, 0]))
    assert population.copied_columns == 20  # the first time, all
    population.take(np.array([1, 1, 1]))
    assert population.copied_columns == 20  # nothing was written since
    population.feed(rows, one)
    population.take(np.array([0, 0, 2]))
    assert population.copied_columns == 21
    population.feed(rows, one)
    population.take(np.array([0, 2, 2]))  # rows 0 and 1 parted two tokens ago, 2 and 1 three
    assert population.copied_columns == 21 + 2
    out = population.feed(rows, one).numpy()
    np.testing.assert_allclose(out[1], out[2], atol=1e-5)


def test_resampling_at_every_token_copies_little():
    rng = np.random.default_rng(0)
    population = Population(model("llama"), [[5, 9]], 16)
    full = 0
    for t in range(60):
        population.feed(np.arange(16), rng.integers(3, VOCAB, (16, 1)))
        before = population.copied_rows
        population.take(np.sort(rng.integers(0, 16, 16)))
        full += (population.copied_rows - before) * (t + 1)
    assert population.copied_columns < 0.5 * full


@pytest.mark.parametrize("seed", range(8))
def test_equal_stamps_mean_equal_contents(seed: int):
    """Any writes, copies and changes of shape, against contents that are kept beside the stamps."""
    rng = np.random.default_rng(seed)
    rows, columns = 6, 12
    stamps, contents = Stamps(rows, columns), np.zeros((rows, columns))
    for _ in range(60):
        what = rng.random()
        if what < 0.4:
            m, k = int(rng.integers(1, rows + 1)), int(rng.integers(1, 4))
            these = rng.permutation(rows)[:m]
            at = rng.integers(0, columns - k, (m, 1)) + np.arange(k)
            who = rng.integers(0, 2, m) if rng.random() < 0.3 else None
            if who is not None:
                at = at[:1]
            stamps.write(these, at, who)
            values = rng.random((m, k)) if who is None else rng.random((2, k))[who]
            contents[these[:, None], at] = values
        elif what < 0.95:
            into, of = rng.permutation(rows)[:3], rng.permutation(rows)[:3]
            ends = rng.integers(0, columns + 1, 3)
            pair, column = stamps.missing(into, of, ends)
            lacking = contents[into] != contents[of]
            lacking &= np.arange(columns) < ends[:, None]
            listed = np.zeros_like(lacking)
            listed[pair, column] = True
            np.testing.assert_array_equal(listed, lacking)
            contents[into[pair], column] = contents[of[pair], column]
            stamps.copy(into[pair], of[pair], column)
        else:
            used = int(rng.integers(columns // 2, columns + 1))
            stamps.resize(rows, columns, used)
            contents[:, used:] = 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_lines_change_places(dtype: torch.dtype):
    x = torch.arange(20).reshape(5, 4).to(dtype)
    want = x[[2, 1, 0, 3, 3]]
    copy_lines(x, torch.tensor([0, 2, 4]), torch.tensor([2, 0, 3]))
    assert torch.equal(x, want)


def test_children_land_on_their_own_row_if_it_is_free():
    free = np.array([True, False, True, True, True])
    assert landing(np.array([3, 1, -1]), free).tolist() == [3, 0, 2]
    assert landing(np.array([], dtype=int), free).tolist() == []


def test_lists_of_different_lengths(monkeypatch: pytest.MonkeyPatch):
    tokens, counts = padded([[3], (), [4, 5, 6]])
    assert tokens.tolist() == [[3, 0, 0], [0, 0, 0], [4, 5, 6]]
    assert counts.tolist() == [1, 0, 3]
    lm, lists = model("llama"), [[3, 4, 5, 6, 7], [8], [9, 10, 11]]
    passes = []
    feed = Population.feed
    spy = lambda self, rows, tokens, *more: (
        passes.append(tokens.shape),
        feed(self, rows, tokens, *more),
    )[1]
    monkeypatch.setattr(Population, "feed", spy)
    monkeypatch.setattr(population_module, "LIMIT", 3)
    rows = np.array([2, 0, 1])
    for limit, shapes in ((None, [(3, 3), (1, 2)]), (1, 5), (9, [(3, 5)])):
        population = Population(lm, [[5, 9]], 3)
        passes.clear()
        out = population.append(rows, lists, limit).numpy()
        assert passes == shapes or len(passes) == shapes
        assert population.lengths[rows].tolist() == [7, 3, 5]
        for i, ids in enumerate(lists):
            np.testing.assert_allclose(out[i], recompute(lm, [5, 9, *ids])[-1], atol=1e-4)
    assert population.append(rows, lists, outputs=False).shape == (3, 0)
    assert population.append(rows[:0], []).shape == (0, 0)
    with pytest.raises(InvalidArgument, match="texts"):
        population.append(rows, [[3], [], [4]])
