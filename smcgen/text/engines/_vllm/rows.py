"""What vLLM's model runners know of a request, changed when it is rewritten; between their steps.

Requests whose positions are not those of their tokens (M-RoPE), or whose blocks are of several kinds, have no rows
here: they cannot be rewritten.
"""

from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int
from torch import Tensor
from vllm.v1.request import Request
from vllm.v1.worker.utils import copy_kv_cache_blocks_inplace

from smcgen.text._torch.recorded import Recorded, padded


class V1Rows:
    """The V1 runner has a copy of each request, and a row of its batch, on the host, for those that run."""

    def __init__(self, runner: Any):
        self._requests = {} if runner.uses_mrope else runner.requests
        self._batch, self._runner = runner.input_batch, runner

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

    def flush(self, scheduler: Any) -> None:
        """Copy blocks before a step: what vLLM schedules in vain, copies included, is never sent to the runner."""
        if copies := scheduler.take_copies():
            runner = self._runner
            copy_kv_cache_blocks_inplace(
                runner.kv_caches, runner.kv_cache_config.num_blocks, copies
            )

    def forget(self) -> None:
        """Nobody is there any more: drop a batch that was computed, and whose tokens nobody will ask for."""
        self._runner.execute_model_state = None


class V2Rows:
    """The V2 runner has a slot for each request, in tables on the device: all that are rewritten change at once.

    A copy's slot becomes its parent's, which has read all of its text, but for its last block. Its tokens are not
    copied: the runner looks at them only while it reads a text. Blocks are copied here, too: on a GPU vLLM launches
    two operations for each layer of the model, which take the host longer than all else of a copy.
    """

    def __init__(self, runner: Any):
        self._states, self._blocks = states, blocks = runner.req_states, runner.block_tables
        none = runner.model_config.uses_mrope or len(blocks.block_tables) != 1
        self._slots: dict[str, int] = {} if none else states.req_id_to_index
        self._sources: dict[int, int] = {}  # slot -> the one whose contents it is to have
        self._last: dict[
            int, tuple[int, int]
        ] = {}  # slot -> the last column of its blocks, and that block
        self._runner = runner
        self._counts = states.total_len.gpu, states.num_computed_tokens.gpu
        self._copy = Recorded(self._copied, device=states.device)

    def __contains__(self, name: str) -> bool:
        return name in self._slots

    def rewrite(self, name: str, of: str, request: Request, blocks: list[int]) -> None:
        """`request`, called `name`, has become a copy of `of`, with these blocks; empty: with those it had."""
        slot, source = self._slots[name], self._slots[of]
        self._sources[slot] = self._sources.get(source, source)
        if blocks:
            self._last[slot] = len(blocks) - 1, blocks[-1]
            self._blocks.num_blocks.np[0, slot] = len(blocks)

    def flush(self, scheduler: Any) -> None:
        """Change what waits to be changed, before a step, which may give a slot or a block to another request."""
        if not self._sources:
            return
        slots = np.array(list(self._sources.items()))
        tables = np.array([(s, self._sources[s], *last) for s, last in self._last.items()])
        blocks = np.array([(dst, src) for src, dst in scheduler.take_copies()])
        self._sources.clear()
        self._last.clear()
        states, (to, source) = self._states, slots.T
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
        parts = slots, tables, blocks
        size = padded(max(map(len, parts)))
        # the last line again and again, up to a number that is not new each time
        lines = [np.pad(p, ((0, size - len(p)), (0, 0)), "edge") for p in parts if len(p)]
        self._copy((len(tables) > 0, len(blocks) > 0), np.concatenate(lines, 1))

    @cached_property
    def _caches(self) -> list[Tensor]:
        """The caches of all layers, those that layers share once, as so many blocks each."""
        count = self._runner.kv_cache_config.num_blocks
        different = {cache.data_ptr(): cache for cache in self._runner.kv_caches}
        return [cache.unflatten(0, (count, -1)) for cache in different.values()]

    def _copied(self, kind: tuple[bool, bool], lines: Int[Tensor, "m columns"]) -> tuple[()]:
        slot, source, *more = lines.unbind(1)
        for table in (*self._counts, self._states.last_sampled_tokens):
            table[slot] = table[source]
        if kind[0]:
            slot, source, column, block, *more = more
            table = self._blocks.block_tables[0].gpu
            table[slot] = table[source]
            table[slot, column] = block.to(table.dtype)
        if kind[1]:
            there, here = more
            for cache in self._caches:
                cache[there] = cache[here]
        return ()

    def forget(self) -> None:
        """Nobody has a slot any more: drop what waits, and what an interrupted step was about to write."""
        self._sources.clear()
        self._last.clear()
        self._runner.execute_model_state = None
        states = self._states
        counts = (states.total_len, states.all_token_ids, states.num_computed_tokens)
        for staged in (*self._blocks.block_tables, *counts):
            staged.clear_staged_writes()
