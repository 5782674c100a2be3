"""Recorded functions, with a stand-in for CUDA graphs: it reads the same buffers and writes the same outputs again."""

import numpy as np
import pytest
import torch

from smcgen.text._torch import recorded
from smcgen.text._torch.recorded import Recorded, padded
from smcgen.text.engines._vllm.drawing import _drawn, _sees_no_numbers
from smcgen.text.sampling import Sampling
from tests.text import vllm_tiny


@pytest.fixture
def recordings(monkeypatch):
    """How often something was recorded; nothing but what is recorded may run on what was recorded."""
    made = []

    def record(work, pool):
        out = work()
        made.append(out)

        def launch():
            for old, new in zip(out, work(), strict=True):
                old.copy_(new)

        return launch, out

    monkeypatch.setattr(recorded, "on_gpu", lambda device: True)
    monkeypatch.setattr(recorded, "record", record)
    monkeypatch.setattr(torch.cuda, "graph_pool_handle", lambda: None)
    return made


def test_room_is_a_power_of_two():
    assert [padded(n) for n in (1, 8, 9, 16, 17, 256)] == [8, 8, 16, 16, 32, 256]


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("phi", [False, True])
@pytest.mark.parametrize("proposal", [None, Sampling(0.7, top_k=5)])
@vllm_tiny.needs_vllm
def test_recorded_draws_are_draws(recordings, given, phi, proposal):
    rng, law = np.random.default_rng(0), (Sampling(1.3), proposal)
    draws = Recorded(_drawn, _sees_no_numbers)
    for rows in (13, 16, 9, 13, 10, 15, 3, 16):
        logits = torch.from_numpy(rng.normal(size=(rows, 40))).float()
        log_phi = torch.from_numpy(rng.normal(size=(rows, 40))).float() if phi else None
        if log_phi is not None:
            log_phi[:, ::3] = -torch.inf
            log_phi[0] = -torch.inf  # nothing is allowed
        uniforms = rng.uniform(size=rows)
        tokens = np.where(rng.uniform(size=rows) < 0.5, 1, -1) if given else None
        there = (None if x is None else torch.from_numpy(x) for x in (uniforms, tokens))
        expected = _drawn(law, logits.clone(), log_phi, *there)
        for ours, theirs in zip(
            draws(law, logits, log_phi, uniforms, tokens), expected, strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)
    assert len(recordings) == 1  # room for 16; that for 8 was asked for once


def test_what_may_look_at_numbers_or_is_large_is_not_recorded(recordings, monkeypatch):
    double = Recorded(lambda kind, x: (2 * x[:, 0],), lambda kind: kind == "fits")
    x = torch.ones(3, 5)
    for _ in range(4):
        assert double("looks", x)[0].tolist() == [2.0] * 3
    assert not recordings
    monkeypatch.setattr(recorded, "_MOST", 39)  # the room is for 8 x 5
    for _ in range(4):
        assert double("fits", x)[0].tolist() == [2.0] * 3
    assert not recordings
    monkeypatch.setattr(recorded, "_MOST", 40)
    assert double("fits", x)[0].tolist() == [2.0] * 3
    assert double("fits", 3 * x)[0].tolist() == [6.0] * 3
    assert double("fits", 4 * x)[0].tolist() == [8.0] * 3
    assert len(recordings) == 1


def test_what_cannot_be_recorded_runs_as_it_is(recordings, monkeypatch, caplog):
    def fail(work, pool):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(recorded, "record", fail)
    double = Recorded(lambda kind, x: (2 * x[:, 0],), lambda kind: True)
    for k in range(5):
        assert double("any", torch.full((2, 1), k))[0].tolist() == [2 * k] * 2
    assert [r.levelname for r in caplog.records] == ["WARNING"]


def test_laws_whose_draws_take_a_second_look():
    nucleus = Sampling(top_p=0.9)
    assert _sees_no_numbers((Sampling(0.5, top_k=3), None))
    assert not _sees_no_numbers((nucleus, None))
    assert not _sees_no_numbers((Sampling(), nucleus))


def test_the_latest_kinds_are_kept_and_share_buffers(recordings, monkeypatch):
    monkeypatch.setattr(recorded, "_KEPT", 3)
    times = Recorded(lambda kind, x: (kind * x[:, 0],))
    for kind in (2, 3, 4, 5):
        for k in range(4):
            assert times(kind, torch.full((2, 1), k))[0].tolist() == [kind * k] * 2
    assert len(recordings) == 4
    assert len(times._known) == 3
    assert len(times._buffers) == 1
    for _ in range(3):  # the oldest of all begins anew
        assert times(2, torch.ones(2, 1))[0].tolist() == [2.0] * 2
    assert len(recordings) == 5


@vllm_tiny.needs_vllm
def test_draws_of_one_step_do_not_overwrite_each_other(recordings):
    """Two populations of one law, asked one by one because a third fails, and one of another law."""
    from smcgen.text.engines._vllm.drawing import Drawing
    from smcgen.text.engines.base import Law

    class Population:
        scores, factors = None, ()

        def __init__(self, law, uniform, fails=False):
            self.law, self.uniform, self.fails, self.got = law, uniform, fails, None

        def given(self, rows):
            return None

        def uniforms(self, rows):
            return np.full(len(rows), self.uniform)[: 0 if self.fails else None]

        def put(self, rows, drawn):
            self.got = drawn[0].astype(int).tolist()

    one, other = Law(Sampling()), Law(Sampling(2.0))
    drawing, logits = Drawing(), torch.zeros(8, 20)
    alone = [Population(one, 0.06)]
    for step in range(4):
        fails = [Population(one, 0.5, fails=True)] if step == 3 else []
        populations = (
            alone if step < 3 else [*alone, Population(one, 0.96), Population(other, 0.31), *fails]
        )
        drawing.where = {f"{k}-{r}": (p, r) for k, p in enumerate(populations) for r in range(2)}
        found = drawing(logits[: len(drawing.where)], list(drawing.where))
        tokens = {int(row): int(t) for rows, ts in found for row, t in zip(rows, ts, strict=True)}
        drawing.tell()
        drawn = [tokens[2 * k + r] for k in range(len(populations) - len(fails)) for r in range(2)]
        assert drawn == [t for p in populations if not p.fails for t in p.got]
    assert drawn == [1, 1, 19, 19, 6, 6]
    assert list(drawing.broken) == fails
    assert recordings
