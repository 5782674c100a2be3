"""What asks for particles' tokens in each of vLLM's model runners, without an engine."""

from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from smcgen.errors import EngineError
from tests.text import vllm_tiny

pytestmark = [vllm_tiny.needs_vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Told:
    """What `draw` was asked; it gives every row its handle as its token, those of each parity apart."""

    def __call__(self, logits, names):
        assert len(logits) == len(names)
        known = [(row, name) for row, name in enumerate(names) if name is not None]
        self.rows, self.handles = [r for r, _ in known], [h for _, h in known]
        parts = [[k for k in known if k[0] % 2 == parity] for parity in (0, 1)]
        return [
            (np.array([r for r, _ in part]), torch.tensor([h for _, h in part]))
            for part in parts
            if part
        ]


@pytest.fixture
def made():
    from smcgen.text.engines._vllm.processor import HANDLE, processor_of

    told = Told()
    params = lambda handle: SimpleNamespace(extra_args=None if handle is None else {HANDLE: handle})
    return processor_of(told)(None, "cpu", False), told, params


def asked(processor, told, count):
    """Handle of each row after `apply`, and whether its token is now the greedy one."""
    told.rows = told.handles = []
    out = processor.apply(torch.randn(count, 10) * 100)
    assert out[told.rows].argmax(1).tolist() == told.handles
    return dict(zip(told.rows, told.handles, strict=True))


def test_v1_keeps_track_of_a_batch_that_changes(made):
    from vllm.v1.sample.logits_processor.interface import BatchUpdate, MoveDirectionality

    processor, told, params = made
    one_way, swap = MoveDirectionality.UNIDIRECTIONAL, MoveDirectionality.SWAP
    add = lambda at, handle: (at, params(handle), None, [])
    change = lambda size, removed=(), added=(), moved=(): processor.update_state(
        BatchUpdate(batch_size=size, removed=removed, added=added, moved=moved)
    )
    change(3, added=[add(0, 5), add(1, None), add(2, 7)])
    assert asked(processor, told, 3) == {0: 5, 2: 7}
    processor.update_state(None)
    assert asked(processor, told, 3) == {0: 5, 2: 7}
    change(3, moved=[(0, 1, swap)])
    assert asked(processor, told, 3) == {1: 5, 2: 7}
    change(2, removed=[1], moved=[(2, 1, one_way)])
    assert asked(processor, told, 2) == {1: 7}
    change(2, removed=[0], added=[add(0, 3)])
    assert asked(processor, told, 2) == {0: 3, 1: 7}
    change(2, added=[add(1, None)])  # somebody else's request takes the place
    assert asked(processor, told, 2) == {0: 3}


def test_v2_samples_what_is_nobodys_and_no_more(monkeypatch):
    from vllm.v1.worker.gpu.sample.output import SamplerOutput
    from vllm.v1.worker.gpu.sample.sampler import Sampler

    from smcgen.text.engines._vllm import sampler as module

    samplers = []

    def plain(self, logits, batch):
        samplers.append(self)
        ones = torch.ones(len(logits), dtype=torch.int32)
        return SamplerOutput(torch.full((len(logits), 1), 9), None, None, ones, 0 * ones)

    counts = lambda ones, lengths, *_: ((lengths > 2).int(), 0 * ones)
    monkeypatch.setattr(Sampler, "__call__", plain)
    monkeypatch.setattr(module, "get_num_sampled_and_rejected", counts)
    sampler, told = object.__new__(Sampler), Told()
    module.install(sampler, told)
    module.install(sampler, told)  # again, by another owner of the same LLM
    sampler.req_states = Mock()

    def sampled(*names, reads=True):
        lengths = torch.arange(1, len(names) + 1)
        batch = Mock(req_ids=names, num_reqs=len(names), seq_lens=lengths, has_prefill=reads)
        out = sampler(torch.randn(len(names), 10), batch)
        return out.sampled_token_ids[:, 0].tolist(), out.num_sampled.tolist()

    assert sampled(4, 5, 6) == ([4, 5, 6], [0, 0, 1])  # the first two have not read their texts
    assert sampled(7) == ([7], [0])
    assert sampled(7, reads=False) == ([7], [1])
    assert not samplers
    assert sampled(4, None, 6) == ([4, 9, 6], [1, 1, 1])
    assert sampled(None) == ([9], [1])
    assert samplers == [sampler, sampler]


def test_v2_tells_the_device_of_requests_that_are_new(monkeypatch):
    from vllm.v1.worker.gpu.sample.sampler import Sampler

    from smcgen.text.engines._vllm.sampler import install

    told = []
    monkeypatch.setattr(Sampler, "add_request", lambda self, *request: told.append(request))
    monkeypatch.setattr(Sampler, "apply_staged_writes", lambda self: told.append("all"))
    sampler = object.__new__(Sampler)
    install(sampler, Told())
    sampler.apply_staged_writes()  # what came before us
    sampler.apply_staged_writes()
    sampler.add_request(3, "params")
    sampler.apply_staged_writes()
    sampler.apply_staged_writes()
    assert told == ["all", (3, "params"), "all"]


def test_samplers_that_draw_otherwise_are_left_alone():
    from vllm.v1.worker.gpu.sample.sampler import Sampler

    from smcgen.text.engines._vllm.sampler import install

    class Watermarks(Sampler):
        pass

    with pytest.raises(EngineError, match="Watermarks"):
        install(object.__new__(Watermarks), Told())


def test_the_runner_takes_the_class(made):
    from vllm.v1.sample.logits_processor import build_logitsprocs

    kind = type(made[0])
    config = SimpleNamespace(
        speculative_config=None,
        scheduler_config=SimpleNamespace(max_num_seqs=2, async_scheduling=False),
    )
    built = build_logitsprocs(config, torch.device("cpu"), False, False, [kind])
    assert [type(p) for p in built.non_argmax_invariant][-1] is kind
