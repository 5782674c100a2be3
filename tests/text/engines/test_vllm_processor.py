"""The logits processor against both of vLLM's interfaces, without an engine."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from tests.text import vllm_tiny

pytestmark = [vllm_tiny.needs_vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


class Told:
    """What `draw` was asked; it gives every row its handle as its token."""

    def __call__(self, logits, rows, handles):
        self.rows, self.handles = list(rows), list(handles)
        return torch.tensor(self.rows), torch.tensor(self.handles)


@pytest.fixture
def made():
    from smcgen.text.engines._vllm.processor import HANDLE, processor_of

    told = Told()
    params = lambda handle: SimpleNamespace(extra_args=None if handle is None else {HANDLE: handle})
    return processor_of(told)(None, "cpu", False), told, params


def asked(processor, told, count, ctx=None):
    """Handle of each row after `apply`, and whether its token is now the greedy one."""
    told.rows = told.handles = []
    logits = torch.randn(count, 10) * 100
    out = processor.apply(logits, *([] if ctx is None else [ctx]))
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


def test_v2_reads_slots(made):
    processor, told, params = made
    layout = lambda *slots: SimpleNamespace(idx_mapping_np=np.array(slots))
    assert processor.add_request(4, params(5)) is True
    assert processor.add_request(2, params(None)) is False
    assert processor.add_request(0, params(7)) is True
    assert asked(processor, told, 3, layout(0, 2, 4)) == {0: 7, 2: 5}
    assert asked(processor, told, 2, layout(4, 2)) == {0: 5}
    processor.add_request(4, params(None))
    assert asked(processor, told, 2, layout(4, 2)) == {}


def test_both_runners_take_the_class(made):
    from vllm.v1.sample.logits_processor import build_logitsprocs
    from vllm.v1.worker.gpu.sample.logits_processor.loader import _load_v2_logitsprocs_by_fqcns

    kind = type(made[0])
    assert _load_v2_logitsprocs_by_fqcns([kind]) == [kind]
    config = SimpleNamespace(
        speculative_config=None,
        scheduler_config=SimpleNamespace(max_num_seqs=2, async_scheduling=False),
    )
    built = build_logitsprocs(config, torch.device("cpu"), False, False, [kind])
    assert [type(p) for p in built.non_argmax_invariant][-1] is kind
