"""A vLLM scheduler that takes particles that write on, each one token, all at once.

vLLM asks of each request, at every step, whether it has images to encode, tokens to speculate on, room in the step and
blocks to be filled; and after the step whether it has stopped. For a particle in the middle of a text the answers are
known: it writes until it is paused, and needs a block, or fills one, once in as many tokens as a block has. Those that
do are scheduled by vLLM, the others here; so a step costs the host a fraction of what it does for other requests.
"""

from typing import Any

from vllm.v1.core.sched.interface import PauseState
from vllm.v1.core.sched.scheduler import Scheduler
from vllm.v1.engine import EngineCoreOutput, EngineCoreOutputs
from vllm.v1.kv_cache_interface import FullAttentionSpec
from vllm.v1.request import Request, RequestStatus

from smcgen.text.engines._vllm.processor import HANDLE


class DecodingScheduler(Scheduler):
    """vLLM's scheduler, with a short way for particles' tokens."""

    def adopt(self) -> None:
        """What this class needs on top of a scheduler."""
        groups, config = self.kv_cache_config.kv_cache_groups, self.vllm_config
        # blocks of one group of full attention are all that a text is
        self.plain = len(groups) == 1 and isinstance(groups[0].kv_cache_spec, FullAttentionSpec)
        others = (self.connector, self.ec_connector, self.aux_output_connector, self.lora_config)
        alone = all(other is None for other in (*others, config.speculative_config))
        self._short = self.plain and alone and config.parallel_config.pipeline_parallel_size == 1
        self._written: dict[str, Request] = {}  # they went the short way in the present step

    def add_request(self, request: Request) -> None:
        params: Any = request.sampling_params
        particle = params is not None and HANDLE in (params.extra_args or {})
        request.smcgen_particle = particle  # pyright: ignore[reportAttributeAccessIssue]
        super().add_request(request)

    @property
    def begins(self) -> bool:
        """Whether the next step may begin requests, or take preempted ones up again."""
        return bool(self.waiting or self.kv_holding_waiting)

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        self._written = {}
        parts = self._parts()
        if parts is None:
            return super().schedule(*args, **kwargs)
        simple, self.running = parts
        running, before = [*simple, *self.running], set[str]()
        if not self.use_v2_model_runner:
            before.update(self.prev_step_scheduled_req_ids)
        out = super().schedule(*args, **kwargs)
        self.running = running
        self._add(out, simple, before)
        return out

    def _parts(self) -> tuple[list[Request], list[Request]] | None:
        """Running requests that can go the short way, and the others; None if all go vLLM's."""
        if not self._short or self.begins or self._pause_state == PauseState.PAUSED_ALL:
            return None
        size, most = self.block_size, self.max_model_len - 1
        simple, others = [], []
        for request in self.running:
            known, length = request.num_computed_tokens, len(request._all_token_ids)
            if known + 1 != length or length >= most or not _is_particle(request):
                return None
            (simple if 0 < known % size < size - 1 else others).append(request)
        if not simple or len(others) > self.kv_cache_manager.block_pool.get_num_free_blocks():
            return None  # vLLM finds out who has to make room
        return simple, others

    def _add(self, out: Any, simple: list[Request], before: set[str]) -> None:
        """These write a token too, in the blocks that they have. `before`: who was in the step before (V1 runner)."""
        ids = [request.request_id for request in simple]
        cached = out.scheduled_cached_reqs
        cached.req_ids += ids
        cached.new_block_ids += [None] * len(ids)
        cached.num_computed_tokens += [request.num_computed_tokens for request in simple]
        cached.num_output_tokens += [len(request._output_token_ids) for request in simple]
        if not self.use_v2_model_runner:
            for name, request in zip(ids, simple, strict=True):
                if name not in before:
                    cached.all_token_ids[name] = request._all_token_ids.copy()
            self.prev_step_scheduled_req_ids.update(ids)
        for request in simple:
            request.num_computed_tokens += 1
            request.num_in_flight_tokens += 1
        out.num_scheduled_tokens.update(dict.fromkeys(ids, 1))
        out.total_num_scheduled_tokens += len(ids)
        self._written = dict(zip(ids, simple, strict=True))

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> Any:
        written, self._written = self._written, {}
        counts = scheduler_output.num_scheduled_tokens
        for name in written:
            del counts[name]
        found = super().update_from_output(scheduler_output, model_runner_output)
        if written:
            outputs = self._tokens(written, model_runner_output)
            own = found.setdefault(0, EngineCoreOutputs(outputs=[]))
            own.outputs = [*own.outputs, *outputs]
        return found

    def _tokens(self, written: dict[str, Request], out: Any) -> list[EngineCoreOutput]:
        places, tokens, size = out.req_id_to_index, out.sampled_token_ids, self.block_size
        outputs = []
        for name, request in written.items():
            request.num_in_flight_tokens -= 1
            if request.status != RequestStatus.RUNNING:  # aborted meanwhile
                continue
            new = tokens[places[name]]
            request._output_token_ids += new
            request._all_token_ids += new
            if len(request._all_token_ids) % size == 0:
                request.update_block_hashes()
            outputs.append(EngineCoreOutput(name, new))
        return outputs


def _is_particle(request: Any) -> bool:
    return getattr(request, "smcgen_particle", False)  # not those that were there before us
