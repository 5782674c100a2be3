"""The sampler by which vLLM's V2 model runner asks for particles' tokens.

It is vLLM's own, but for batches with particles: they are drawn by their own laws from the model's logits. Where all of
a batch are particles nothing else looks at the logits: vLLM copies them for its processors and looks for a maximum.
"""

from typing import Any, cast

import torch
from torch import Tensor
from vllm.v1.worker.gpu.input_batch import get_num_sampled_and_rejected
from vllm.v1.worker.gpu.sample.output import SamplerOutput
from vllm.v1.worker.gpu.sample.sampler import Sampler

from smcgen.errors import EngineError
from smcgen.text._torch.upload import upload
from smcgen.text.engines._vllm.processor import Draw


class ParticleSampler(Sampler):
    """A sampler that asks `smcgen_draw` first."""

    smcgen_draw: Draw
    _staged = True  # whether requests have come since the device was last told of them

    def add_request(self, req_idx: int, sampling_params: Any) -> None:
        """Somebody's request begins."""
        self._staged = True
        super().add_request(req_idx, sampling_params)

    def apply_staged_writes(self) -> None:
        """Tell the device of new requests; vLLM copies fourteen tables at every step, new or not."""
        if self._staged:
            super().apply_staged_writes()
            self._staged = False

    def __call__(self, logits: Tensor, input_batch: Any) -> SamplerOutput:
        """A token for each row of a batch."""
        drawn = self.smcgen_draw(logits, input_batch.req_ids)
        if sum(len(rows) for rows, _ in drawn) < len(logits):
            out = super().__call__(logits, input_batch)
            tokens = out.sampled_token_ids[:, 0]
        else:
            tokens = torch.empty(len(logits), dtype=torch.int64, device=logits.device)
            out = None
        for rows, found in drawn:
            if len(rows) == len(logits):
                tokens = found
            else:
                tokens[upload(rows, logits.device)] = found
        return out or SamplerOutput(tokens[:, None], None, None, *self._counts(input_batch))

    def _counts(self, batch: Any) -> tuple[Tensor, Tensor]:
        """How many tokens each request gets, and how many are taken back: none while it reads its text."""
        lengths = batch.seq_lens
        ones = lengths.new_ones(batch.num_reqs)
        if not batch.has_prefill:
            return ones, torch.zeros_like(ones)
        return get_num_sampled_and_rejected(
            ones, lengths, batch.cu_num_logits, batch.idx_mapping, self.req_states.prefill_len.gpu
        )


def install(sampler: Any, draw: Draw) -> None:
    """Make a runner's sampler one that asks `draw`.

    Raises:
        EngineError: it is not vLLM's usual one; it may watermark, or the model brings its own.
    """
    if type(sampler) not in (Sampler, ParticleSampler):
        raise EngineError(
            f"a model that vLLM samples by {type(sampler).__name__} cannot be steered"
        )
    sampler.__class__ = ParticleSampler
    cast("ParticleSampler", sampler).smcgen_draw = draw
