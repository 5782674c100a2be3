"""Requests of particles, straight to vLLM's engine core.

vLLM's front end checks, copies and detokenises; a particle needs none of that, and a population that resamples makes
thousands of requests. What is asked of the core is what its own in-process client asks.
"""

import copy
import time
from collections.abc import Iterable, Sequence
from typing import Any

from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreRequest


class Port:
    """A way into an `LLMEngine` that runs in this process."""

    def __init__(self, engine: Any):
        self._client = engine.engine_core
        self._longest = engine.model_config.max_model_len
        # writes until it is stopped, and takes the token whose logit is greatest
        self._params = SamplingParams(temperature=0.0, ignore_eos=True, detokenize=False)

    def add(self, request_id: str, tokens: list[int], extra: dict[str, Any]) -> None:
        """A request that goes on from `tokens`."""
        params = copy.copy(self._params)
        params.extra_args = extra
        params.max_tokens = self._longest - len(tokens)
        self._client.add_request(
            EngineCoreRequest(
                request_id=request_id,
                prompt_token_ids=tokens,
                mm_features=None,
                sampling_params=params,
                pooling_params=None,
                arrival_time=time.time(),
                lora_request=None,
                cache_salt=None,
                data_parallel_rank=None,
                external_req_id=request_id,
            )
        )

    def abort(self, request_ids: Sequence[str]) -> None:
        """End these requests."""
        self._client.abort_requests(list(request_ids))

    def step(self) -> Iterable[tuple[str, bool, bool]]:
        """One step of the engine: (request, whether it got a token, whether it is finished)."""
        for out in self._client.get_output().outputs:
            yield out.request_id, bool(out.new_token_ids), out.finish_reason is not None


def name_of(number: int) -> str:
    """vLLM's id of a particle's request; others may have requests of their own."""
    return f"particle-{number}"


def number_of(name: str) -> int:
    """The number in a name; -1 for a request that is not a particle's."""
    kind, _, number = name.partition("-")
    return int(number) if kind == "particle" else -1
