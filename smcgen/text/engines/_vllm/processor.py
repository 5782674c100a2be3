"""The logits processor that draws: one class for both of vLLM's model runners.

vLLM asks it to change logits before sampling. It draws the tokens itself, by the laws of the particles, and then raises
each drawn token's logit above all others, so that vLLM's greedy sampling (the requests say `temperature=0`) takes
it. Nothing but tokens and log-probabilities leaves the device.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from vllm.v1.sample.logits_processor.interface import LogitsProcessor as V1Processor
from vllm.v1.sample.logits_processor.interface import MoveDirectionality
from vllm.v1.worker.gpu.sample.logits_processor.interface import LogitsProcessor as V2Processor

HANDLE = "smcgen_particle"  # the particle that a request belongs to
Draw = Callable[[torch.Tensor, Sequence[int], Sequence[str]], Any]
"""Called with logits, the rows among them that are particles, and their handles; returns a token for each."""


def processor_of(draw: Draw) -> type:
    """A processor class, for one engine, that asks `draw`."""

    class ParticleProcessor(V1Processor, V2Processor):  # pyright: ignore[reportIncompatibleMethodOverride]
        def __init__(self, vllm_config: Any, *_: Any):
            self._handles: dict[int, str] = {}  # by place in the batch (V1) or slot (V2)

        @classmethod
        def validate_params(cls, sampling_params: Any) -> None:
            """Nothing to refuse."""

        def is_argmax_invariant(self) -> bool:
            return False

        # V1: the batch is kept in place, and its changes are told
        def update_state(self, batch_update: Any) -> None:
            if batch_update is None:
                return
            handles = self._handles
            for index in batch_update.removed:
                handles.pop(index, None)
            for index, params, *_ in batch_update.added:
                self.add_request(index, params)
            for one, two, direction in batch_update.moved:
                first, second = handles.pop(one, None), handles.pop(two, None)
                if first is not None:
                    handles[two] = first
                if second is not None and direction == MoveDirectionality.SWAP:
                    handles[one] = second

        # V2: requests have slots, and each call says which slots its rows are
        def add_request(self, req_idx: int, sampling_params: Any) -> bool:
            handle = (sampling_params.extra_args or {}).get(HANDLE)
            self._handles.pop(req_idx, None)
            if handle is not None:
                self._handles[req_idx] = handle
            return handle is not None

        def apply(self, logits: torch.Tensor, ctx: Any = None) -> torch.Tensor:
            count = len(logits)
            slots = range(count) if ctx is None else ctx.idx_mapping_np.tolist()
            known = [(row, self._handles[s]) for row, s in enumerate(slots) if s in self._handles]
            if known:
                rows, handles = zip(*known, strict=True)
                rows, tokens = draw(logits, rows, handles)
                logits[rows, tokens] = torch.finfo(logits.dtype).max
            return logits

    return ParticleProcessor
