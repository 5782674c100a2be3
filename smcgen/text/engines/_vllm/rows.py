"""What vLLM's model runners know of a request, changed when it is rewritten; between their steps.

Requests whose positions are not those of their tokens (M-RoPE) have no rows here: they cannot be rewritten.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor
from vllm.v1.request import Request

from smcgen.text._torch.recorded import Recorded, padded
from smcgen.text._torch.upload import upload


class V1Rows:
    """The V1 runner has a copy of each request, and a row of its batch, on the host, for those that run."""

    def __init__(self, runner: Any):
        self._requests = {} if runner.uses_mrope else runner.requests
        self._batch = runner.input_batch

    def __contains__(self, name: str) -> bool:
        return name in self._requests

    def rewrite(self, name: str, of: str, request: Request, blocks: list[int]) -> None:
        """`request`, called `name`, has become a copy of `of`, with these blocks; empty: with those it had."""
        mine, batch, known = self._requests[name], self._batch, request.num_computed_tokens
        mine.prompt_token_ids, mine.num_prompt_tokens = (
            request.prompt_token_ids,
            request.num_prompt_tokens,
        )
        mine.output_token_ids[:] = request._output_token_ids  # the batch holds this list
        mine.num_computed_tokens = known
        if blocks:
            mine.block_ids = (blocks,)
        row = batch.req_id_to_index.get(name)
        if row is None:
            return
        length, source = known + 1, batch.req_id_to_index.get(of)
        if source is None:
            batch.token_ids_cpu[row, :length] = request._all_token_ids
        else:
            batch.token_ids_cpu[row, :length] = batch.token_ids_cpu[source, :length]
        batch.is_token_ids[row, :length] = True
        batch.num_prompt_tokens[row] = request.num_prompt_tokens
        batch.num_tokens_no_spec[row] = length
        batch.num_computed_tokens_cpu[row] = known
        if blocks:
            batch.block_table.clear_row(row)
            batch.block_table.add_row((blocks,), row)

    def flush(self, begins: bool) -> None:
        """Nothing waits."""

    def forget(self) -> None:
        """Nothing waits."""


class V2Rows:
    """The V2 runner has a slot for each request, in tables on the device: all that are rewritten change at once.

    A copy's slot becomes its parent's, which has read all of its text. Its tokens are not copied: the runner looks at
    them only while it reads a text. Blocks that copies need are copied here, too: on a GPU vLLM launches two
    operations for each layer of the model, which take the host longer than all else of a copy.
    """

    def __init__(self, runner: Any):
        self._states, self._blocks = runner.req_states, runner.block_tables
        mrope = runner.model_config.uses_mrope
        self._slots: dict[str, int] = {} if mrope else self._states.req_id_to_index
        self._sources: dict[int, int] = {}  # slot -> the one whose contents it is to have
        self._caches = _by_block(runner.kv_caches, runner.kv_cache_config.num_blocks)
        states = self._states
        self._tables = (
            states.total_len.gpu,
            states.num_computed_tokens.gpu,
            states.last_sampled_tokens,
        )
        self._copy = Recorded(self._copied, lambda what: True)

    def __contains__(self, name: str) -> bool:
        return name in self._slots

    def rewrite(self, name: str, of: str, request: Request, blocks: list[int]) -> None:
        """`request`, called `name`, has become a copy of `of`, with these blocks; empty: with those it had."""
        slot, source = self._slots[name], self._slots[of]
        self._sources[slot] = self._sources.get(source, source)
        if blocks:
            self._blocks.append_block_ids(slot, (blocks,), overwrite=True)

    def flush(self, begins: bool) -> None:
        """Change what waits to be changed: once before a step, since vLLM's buffers for that are few.

        Args:
            begins: whether the step may give a slot, and write its row, to a request that begins.
        """
        if not self._sources:
            return
        pairs = np.array(list(self._sources.items()))
        self._sources.clear()
        if begins:  # else the runner does
            self._blocks.apply_staged_writes()
        states, (to, source) = self._states, pairs.T
        for counts in (
            states.max_seq_len,
            states.num_computed_prefill_tokens,
            states.num_computed_tokens_np,
        ):
            counts[to] = counts[source]
        for lengths in (states.prompt_len, states.prefill_len):
            if (lengths.np[to] != lengths.np[source]).any():
                lengths.np[to] = lengths.np[source]
                lengths.copy_to_uva()
        self._copy("slots", self._ready(pairs))

    def copy_blocks(self, copies: Sequence[Any]) -> None:
        """Copy blocks of all layers; each copy is the numbers of a block and of the one that it is to be like."""
        self._copy("blocks", self._ready(np.array([(dst, src) for src, dst in copies])))

    def _ready(self, pairs: Int[np.ndarray, "m 2"]) -> Tensor:
        """Pairs on the device; the last one again and again up to a number that is not new each time."""
        size = padded(len(pairs))
        return upload(np.pad(pairs, ((0, size - len(pairs)), (0, 0)), "edge"), self._states.device)

    def _copied(self, what: Any, pairs: Tensor) -> tuple[()]:
        there, here = pairs.unbind(1)
        for table in self._tables if what == "slots" else self._caches:
            table[there] = table[here]
        return ()

    def forget(self) -> None:
        """Nobody has a slot any more: drop what waits, and what an interrupted step was about to write."""
        self._sources.clear()
        states = self._states
        counts = (states.total_len, states.all_token_ids, states.num_computed_tokens)
        for staged in (*self._blocks.block_tables, *counts):
            staged.clear_staged_writes()


def _by_block(caches: Sequence[Tensor], count: int) -> list[Tensor]:
    """The caches of all layers, those that layers share once, as so many blocks each."""
    different = {cache.data_ptr(): cache for cache in caches}
    return [cache.unflatten(0, (count, -1)) for cache in different.values()]
