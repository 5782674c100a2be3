"""What vLLM's model runners know of a request, changed when it is rewritten; between their steps.

Requests whose positions are not those of their tokens (M-RoPE) have no rows here: they cannot be rewritten.
"""

from typing import Any

from vllm.v1.request import Request


class V1Rows:
    """The V1 runner has a copy of each request, and a row of its batch, on the host, for those that run."""

    def __init__(self, runner: Any):
        self._requests = {} if runner.uses_mrope else runner.requests
        self._batch = runner.input_batch

    def __contains__(self, name: str) -> bool:
        return name in self._requests

    def rewrite(self, name: str, of: str, request: Request, blocks: list[int]) -> None:
        """`request`, called `name`, has become a copy of `of`, with these blocks."""
        mine, batch, known = self._requests[name], self._batch, request.num_computed_tokens
        mine.prompt_token_ids, mine.num_prompt_tokens = (
            request.prompt_token_ids,
            request.num_prompt_tokens,
        )
        mine.output_token_ids[:] = request._output_token_ids  # the batch holds this list
        mine.block_ids, mine.num_computed_tokens = (blocks,), known
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
        batch.block_table.clear_row(row)
        batch.block_table.add_row((blocks,), row)

    def done(self) -> None:
        """No more for now."""


class V2Rows:
    """The V2 runner has a slot for each request, in tables on the device that are written before its next step."""

    def __init__(self, runner: Any):
        self._slots = {} if runner.model_config.uses_mrope else runner.req_states.req_id_to_index
        self._states, self._blocks = runner.req_states, runner.block_tables
        self._changed = False

    def __contains__(self, name: str) -> bool:
        return name in self._slots

    def rewrite(self, name: str, of: str, request: Request, blocks: list[int]) -> None:
        """`request`, called `name`, has become a copy of `of`, with these blocks."""
        slot = self._states.remove_request(name)
        self._states.add_request(
            name,
            request.num_prompt_tokens,
            list(request._all_token_ids),
            request.num_computed_tokens,
            request.max_tokens,
        )
        # the slot that was freed last, in which the sampler and the processor know the request
        assert self._slots[name] == slot
        self._blocks.append_block_ids(slot, (blocks,), overwrite=True)
        self._changed = True

    def done(self) -> None:
        """No more for now: write to the device."""
        if self._changed:
            self._states.apply_staged_writes()
            self._changed = False
