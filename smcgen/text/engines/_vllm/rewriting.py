"""A request that nobody needs any more, rewritten to be a copy of another where it stands.

A copy as a new request costs vLLM the end of one request, the beginning of another, the hashes of its text and both
in its batch of rows. To rewrite a request is to change a row of each of its tables: full blocks of the new text are
shared, the one that is not full is copied into the block that the request had. It then goes on like any paused one.
"""

from collections.abc import Sequence
from typing import Any

from vllm.v1.request import RequestStatus

from smcgen.text.engines._vllm.rows import V1Rows, V2Rows
from smcgen.text.engines._vllm.scheduler import ParticleScheduler
from smcgen.text.engines._vllm.writer import Writer


class Rewriter:
    """Rewrites requests of an `LLMEngine` that runs in this process, between its steps."""

    def __init__(self, engine: Any):
        self._scheduler: ParticleScheduler = engine.engine_core.engine_core.scheduler
        runner = engine.model_executor.driver_worker.worker.model_runner
        self._rows = (V2Rows if self._scheduler.use_v2_model_runner else V1Rows)(runner)

    def __call__(self, writer: Writer, rows: Sequence[int]) -> list[int]:
        """The request of each row becomes a copy of its parent; returns the rows for which that cannot be.

        No request is both; parents have computed all of their text but its last token.
        """
        lost = []
        for row in rows:
            name, parent = writer.requests[row], writer.parents[row]
            assert name is not None
            assert parent is not None
            if self._one(name, parent):
                writer.parents[row] = None
            else:
                lost.append(row)
        return lost

    def flush(self) -> None:
        """Tell the model runner; before each step of the engine."""
        self._rows.flush(self._scheduler)

    def forget(self) -> None:
        """After an interrupt, when all requests have been aborted: nothing waits to be copied."""
        self._scheduler.take_copies()
        self._rows.forget()

    def _one(self, name: str, of: str) -> bool:
        there = self._scheduler.requests
        mine, theirs = there.get(name), there.get(of)
        if not self._scheduler.forks or mine is None or theirs is None:
            return False
        known = theirs.num_computed_tokens
        running = mine.status == theirs.status == RequestStatus.RUNNING  # paused ones are, too
        if not running or not known or known != theirs.num_tokens - 1:
            return False
        if name not in self._rows or of not in self._rows:
            return False
        blocks = self._scheduler.share_blocks(name, of, known)
        if blocks is None:
            return False
        mine.prompt_token_ids = theirs.prompt_token_ids
        mine.num_prompt_tokens = theirs.num_prompt_tokens
        mine._output_token_ids[:] = theirs._output_token_ids
        mine._all_token_ids[:] = theirs._all_token_ids
        mine.block_hashes[:] = theirs.block_hashes
        mine.num_computed_tokens, mine.max_tokens = known, theirs.max_tokens
        self._rows.rewrite(name, of, mine, blocks)
        return True
