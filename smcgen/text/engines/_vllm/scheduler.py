"""A vLLM scheduler whose requests can be paused, and can start from another request's KV cache.

A particle is a request that lives as long as its text. At the end of a step it is paused: it keeps its blocks and
costs nothing. A copy starts from its parent's blocks, the partly filled one included (vLLM copies that one on
write), so that it computes one token, which its parent has not computed either. What is not possible falls back
to what vLLM does anyway: the prefix cache, or computing again.
"""

import time
from collections import deque
from collections.abc import Iterable
from typing import Any

from vllm.v1.request import Request, RequestStatus

from smcgen.text.engines._vllm.decoding import DecodingScheduler

FORK = "smcgen_fork_from"  # request id of the parent
SCORE = "smcgen_score_from"  # tokens before this position may come from a cache, later ones may not
STARVED = (
    "out of KV memory: not even one text fits; raise kv_cache_memory_bytes (or gpu_memory_utilization), "
    "or lower max_length"
)


class ParticleScheduler(DecodingScheduler):
    """A scheduler with `pause`, `resume` and forks."""

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.adopt()

    def adopt(self) -> None:
        """What this class needs on top of a scheduler."""
        super().adopt()
        self.paused: dict[str, Request] = {}
        self._resuming: deque[Request] = deque()
        self._withheld: list[Request] = []  # forks of what is not computed yet
        self.prefilled: dict[str, int] = {}
        self.forks = self.plain and self.kv_cache_manager.enable_caching
        self.forked = self.missed = 0
        self.idle = 0  # schedules in a row that found no room for anything

    def pause(self, ids: Iterable[str]) -> None:
        """Keep these requests, but do not run them."""
        chosen = {i for i in ids if i in self.requests}
        for request in self.running:
            if request.request_id in chosen:
                self.paused[request.request_id] = request
        self.running = [r for r in self.running if r.request_id not in chosen]
        for i in chosen - self.paused.keys():  # preempted in the step that ended it
            request = self.requests[i]
            if request.status == RequestStatus.PREEMPTED:
                self.waiting.remove_requests([request])
                self.paused[i] = request

    def resume(self, ids: Iterable[str]) -> list[str]:
        """Run these again; returns those that are not there any more."""
        lost = []
        for i in ids:
            request = self.paused.pop(i, None)
            if request is None:
                if i not in self.requests:
                    lost.append(i)
            elif request.status == RequestStatus.PREEMPTED:
                self.waiting.add_request(request)
            else:
                self._resuming.append(request)
        return lost

    def _fit(self) -> None:
        """The V2 runner has a slot for each request that holds blocks: paused ones give theirs."""
        held = [r for r in self.paused.values() if r.status == RequestStatus.RUNNING]
        wanted = len(held) + len(self.running) + len(self._resuming) + len(self.waiting)
        for request in held[: max(0, wanted - self.max_num_running_reqs)]:
            self._evict(request)

    def _evict(self, request: Request) -> None:
        """Free a paused request's blocks; what the prefix cache lost of them is computed again."""
        self._preempt_request(request, time.monotonic())
        self.waiting.remove_requests([request])

    def add_request(self, request: Request) -> None:
        parent = self.requests.get(_extra(request, FORK))
        if parent is not None and parent.num_computed_tokens == 0 and self.forks:
            self.requests[request.request_id] = request
            self._withheld.append(request)
        else:
            super().add_request(request)

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        if self._withheld:
            ready = [r for r in self._withheld if not self._waits(r)]
            self._withheld = [r for r in self._withheld if self._waits(r)]
            for request in ready:
                del self.requests[request.request_id]
                super().add_request(request)
        if self.use_v2_model_runner and self.paused:
            self._fit()
        while self._resuming and len(self.running) < self.max_num_running_reqs:
            request = self._resuming.popleft()
            if request.request_id in self.requests:  # else it was aborted meanwhile
                self.running.append(request)
        out = super().schedule(*args, **kwargs)
        if not out.total_num_scheduled_tokens and (self.waiting or self.running):
            held = [r for r in self.paused.values() if r.status == RequestStatus.RUNNING]
            if held:  # no blocks left for those that run: those that do not run give theirs
                for request in held[-max(1, len(held) // 2) :]:
                    self._evict(request)
                self.finished_req_ids |= out.finished_req_ids  # its message was not sent
                self.reset_preempted_req_ids |= out.preempted_req_ids or set()
                return self.schedule(*args, **kwargs)
        self.idle = 0 if out.total_num_scheduled_tokens else self.idle + 1
        for request_id, count in out.num_scheduled_tokens.items():
            if count > 1:
                late = count - (not self.requests[request_id].is_prefill_chunk)
                self.prefilled[request_id] = self.prefilled.get(request_id, 0) + late
        return out

    @property
    def begins(self) -> bool:
        """Whether the next step may begin requests, or take preempted ones up again."""
        return super().begins or bool(self._withheld)

    def first_waiting(self) -> str:
        """The request that is next to run."""
        queue = [*self._resuming, *self.waiting, *self.running]
        return queue[0].request_id if queue else ""

    def take_prefilled(self) -> dict[str, int]:
        """Tokens computed since the last call that were not the latest of their text, by request."""
        taken, self.prefilled = self.prefilled, {}
        return taken

    def _waits(self, request: Request) -> bool:
        source = _extra(request, FORK)
        parent = self.requests.get(source) if source not in self.paused else None
        return parent is not None and parent.num_computed_tokens < parent.num_prompt_tokens

    def finish_requests(self, request_ids: Any, finished_status: RequestStatus) -> list[Request]:
        if request_ids is None:
            ids = set(self.requests)
        else:
            ids = {request_ids} if isinstance(request_ids, str) else set(request_ids)
        for request in self._withheld:
            if request.request_id in ids:  # in no queue of vLLM's: let it end as a waiting one
                del self.requests[request.request_id]
                super().add_request(request)
        self._withheld = [r for r in self._withheld if r.request_id not in ids]
        self._resuming = deque(r for r in self._resuming if r.request_id not in ids)
        for i in ids:
            self.paused.pop(i, None)
        return super().finish_requests(ids, finished_status)

    def get_num_unfinished_requests(self) -> int:
        extra = len(self._resuming) + len(self._withheld)
        return super().get_num_unfinished_requests() + extra

    def _get_local_prefix_cache_hit(self, request: Request) -> Any:
        # a text that was preempted has more in the prefix cache than its parent has of it
        found = None if request.num_output_tokens else self._of_parent(request)
        if found is not None:
            return found
        blocks, hit, boundary, diverged = super()._get_local_prefix_cache_hit(request)
        limit = _extra(request, SCORE)
        if limit is not None and hit > limit:
            hit = limit // self.block_size * self.block_size
            blocks = self.kv_cache_manager.truncate_computed_blocks(blocks, hit)
        return blocks, hit, boundary, diverged

    def _of_parent(self, request: Request) -> Any:
        source = _extra(request, FORK)
        parent = self.requests.get(source) if self.forks else None
        # all that two texts have in common is what the child began with
        limit = _extra(request, SCORE)
        own = request.num_prompt_tokens - 1 if limit is None else limit
        known = min(parent.num_computed_tokens, own) if parent else 0
        if known <= 0:
            self.missed += source is not None
            return None
        self.forked += 1
        held = self.kv_cache_manager.coordinator.get_blocks(str(source))[0]
        blocks = list(held[: -(-known // self.block_size)])
        return self.kv_cache_manager.create_kv_cache_blocks((blocks,)), known, 0, False

    def share_blocks(self, name: str, of: str, known: int) -> list[int] | None:
        """A request's blocks become those of another's first `known` tokens; if the last is not full, a copy of it.

        Returns their ids, empty if they are those that it had; None, and nothing has changed, if there is no block for
        the copy.
        """
        manager = self.kv_cache_manager.coordinator.single_type_managers[0]
        pool = self.kv_cache_manager.block_pool
        mine, theirs = manager.req_to_blocks[name], manager.req_to_blocks[of]
        whole, rest = divmod(known, manager.block_size)
        blocks = theirs[:whole]
        same = mine[:whole] == blocks  # texts that parted a moment ago
        new, gone = ([], mine[whole:]) if same else (blocks, mine)
        pool.touch(new)  # before its own are freed, which may be the same
        if rest:
            if gone and pool.is_block_writable(gone[-1]):
                last = gone.pop()
            elif pool.get_num_free_blocks():
                last, same = pool.get_new_blocks(1)[0], False
            else:
                pool.free_blocks(reversed(new))
                return None
            pool.touch([theirs[whole], last])  # vLLM lets go of both when they are copied
            manager._pending_cow_copies.append((theirs[whole], last))
            blocks = [*blocks, last]
        same = same and not gone
        pool.free_blocks(reversed(gone))
        manager.req_to_blocks[name], manager.num_cached_block[name] = blocks, whole
        self.forked += 1
        return [] if same else [block.block_id for block in blocks]

    def take_copies(self) -> list[Any]:
        """Pairs of blocks that wait to be copied, from and to, for one who has the device copy them before all else."""
        copies, blocks = self.kv_cache_manager.take_kv_cache_block_copies()
        self.kv_cache_manager.block_pool.free_blocks(blocks)
        return copies


def _extra(request: Request, name: str) -> Any:
    """What a particle's request says of itself."""
    params = request.sampling_params
    return (params.extra_args or {}).get(name) if params is not None else None
