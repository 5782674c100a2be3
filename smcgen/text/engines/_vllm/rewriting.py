"""A request that nobody needs any more, rewritten to be a copy of another where it stands.

A copy as a new request costs vLLM the end of one request, the beginning of another, the hashes of its text and both
in its batch of rows. To rewrite a request is to change a row of each of its tables: full blocks of the new text are
shared, the one that is not full is copied into the block that the request had. It then goes on like any paused one.

For vLLM's V1 model runner, whose batch lies in this process. The V2 runner keeps its rows on the device: there copies
are new requests.
"""

from collections.abc import Sequence
from typing import Any

from vllm.v1.request import RequestStatus

from smcgen.text.engines._vllm.port import name_of
from smcgen.text.engines._vllm.scheduler import ParticleScheduler
from smcgen.text.engines._vllm.writer import Writer


class Rewriter:
    """Rewrites requests of an `LLMEngine` that runs in this process, between its steps."""

    def __init__(self, engine: Any):
        self._scheduler: ParticleScheduler = engine.engine_core.engine_core.scheduler
        self._runner: Any = None  # it has a copy of each request, and a row for those that run
        if not self._scheduler.use_v2_model_runner:
            runner = engine.model_executor.driver_worker.worker.model_runner
            if not runner.uses_mrope:  # whose requests have positions of their own
                self._runner = runner

    def __call__(self, writer: Writer, rows: Sequence[int]) -> list[int]:
        """The request of each row becomes a copy of its parent; returns the rows for which that cannot be.

        No request is both; parents have computed all of their text but its last token.
        """
        lost = []
        for row in rows:
            number, parent = writer.requests[row], writer.parents[row]
            assert number is not None
            assert parent is not None
            if self._one(name_of(number), name_of(parent)):
                writer.parents[row] = None
            else:
                lost.append(row)
        return lost

    def _one(self, name: str, of: str) -> bool:
        there = self._scheduler.requests
        mine, theirs = there.get(name), there.get(of)
        if self._runner is None or not self._scheduler.forks or mine is None or theirs is None:
            return False
        known = theirs.num_computed_tokens
        running = mine.status == theirs.status == RequestStatus.RUNNING  # paused ones are, too
        if not running or not known or known != theirs.num_tokens - 1:
            return False
        blocks = self._scheduler.share_blocks(name, of, known)
        if blocks is None:
            return False
        mine.prompt_token_ids, mine.num_prompt_tokens = (
            theirs.prompt_token_ids,
            theirs.num_prompt_tokens,
        )
        mine._output_token_ids[:] = theirs._output_token_ids
        mine._all_token_ids[:] = theirs._all_token_ids
        mine.block_hashes[:] = theirs.block_hashes
        mine.num_computed_tokens, mine.max_tokens = known, theirs.max_tokens
        self._row(name, of, blocks, known)
        return True

    def _row(self, name: str, of: str, blocks: list[int], known: int) -> None:
        """The same in the runner: its copy of the request, and its row of the batch if it has one."""
        runner, batch = self._runner, self._runner.input_batch
        mine, theirs = runner.requests[name], runner.requests[of]
        mine.prompt_token_ids, mine.num_prompt_tokens = (
            theirs.prompt_token_ids,
            theirs.num_prompt_tokens,
        )
        mine.output_token_ids[:] = theirs.output_token_ids  # the batch holds this list
        mine.block_ids, mine.num_computed_tokens = (blocks,), known
        row = batch.req_id_to_index.get(name)
        if row is None:
            return
        length = known + 1
        source = batch.req_id_to_index.get(of)
        if source is None:
            prompt = theirs.prompt_token_ids
            batch.token_ids_cpu[row, :length] = [*prompt, *theirs.output_token_ids]
        else:
            batch.token_ids_cpu[row, :length] = batch.token_ids_cpu[source, :length]
        batch.is_token_ids[row, :length] = True
        batch.num_prompt_tokens[row] = theirs.num_prompt_tokens
        batch.num_tokens_no_spec[row] = length
        batch.num_computed_tokens_cpu[row] = known
        batch.block_table.clear_row(row)
        batch.block_table.add_row((blocks,), row)
