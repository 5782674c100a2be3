"""The logits processor by which vLLM's V1 model runner asks for particles' tokens.

vLLM asks it to change logits before sampling. It draws the tokens itself, by the laws of the particles, and then raises
each drawn token's logit above all others, so that vLLM's greedy sampling (the requests say `temperature=0`) takes
it. Nothing but tokens and log-probabilities leaves the device.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from vllm.v1.sample.logits_processor.interface import LogitsProcessor, MoveDirectionality

from smcgen.text._torch.upload import upload
from smcgen.text.engines._vllm.drawing import Drawn

HANDLE = "smcgen_particle"  # the particle that a request belongs to
Draw = Callable[[Tensor, Sequence[str | None]], Drawn]
"""Called with logits and the handle of each row, None where it is no particle's."""


def processor_of(draw: Draw) -> type:
    """A processor class, for one engine, that asks `draw`."""

    class ParticleProcessor(LogitsProcessor):
        def __init__(self, vllm_config: Any, *_: Any):
            self._handles: dict[int, str] = {}  # by place in the batch

        @classmethod
        def validate_params(cls, sampling_params: Any) -> None:
            """Nothing to refuse."""

        def is_argmax_invariant(self) -> bool:
            return False

        def update_state(self, batch_update: Any) -> None:
            """The batch is kept in place, and its changes are told."""
            if batch_update is None:
                return
            handles = self._handles
            for index in batch_update.removed:
                handles.pop(index, None)
            for index, params, *_ in batch_update.added:
                handle = (params.extra_args or {}).get(HANDLE)
                handles.pop(index, None)
                if handle is not None:
                    handles[index] = handle
            for one, two, direction in batch_update.moved:
                first, second = handles.pop(one, None), handles.pop(two, None)
                if first is not None:
                    handles[two] = first
                if second is not None and direction == MoveDirectionality.SWAP:
                    handles[one] = second

        def apply(self, logits: Tensor) -> Tensor:
            if self._handles:
                names = [self._handles.get(row) for row in range(len(logits))]
                for rows, tokens in draw(logits, names):
                    logits[upload(rows, logits.device), tokens] = torch.finfo(logits.dtype).max
            return logits

    return ParticleProcessor
