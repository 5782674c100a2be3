"""Requests of particles, straight to vLLM's engine core.

vLLM's front end checks, copies and detokenises; a particle needs none of that, and a population that resamples makes
thousands of requests. What is asked of the core is what its own in-process client asks.
"""

import copy
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64
from vllm.sampling_params import SamplingParams
from vllm.v1.engine import EngineCoreRequest


class Outcome(NamedTuple):
    """What a step of the engine did, for requests by name.

    `prompt_logs` are log-probabilities of a prompt's tokens up to its last, where they were asked for: from the second
    on (V1 runner), or from the second of those that no cache had (V2 runner).
    """

    got_token: list[str]
    finished: list[str]
    prompt_logs: dict[str, Float64[np.ndarray, " tokens"]]


class Port:
    """A way into an `LLMEngine` that runs in this process."""

    def __init__(self, engine: Any):
        self._client = engine.engine_core
        self._longest = engine.model_config.max_model_len
        # writes until it is stopped, and takes the token whose logit is greatest
        self._params = SamplingParams(temperature=0.0, ignore_eos=True, detokenize=False)
        self._scores = SamplingParams(
            temperature=0.0, prompt_logprobs=0, skip_reading_prefix_cache=False, detokenize=False
        )

    def add(
        self, request_id: str, tokens: list[int], extra: dict[str, Any], score: bool = False
    ) -> None:
        """A request that goes on from `tokens`, or that scores them."""
        params = copy.copy(self._scores if score else self._params)
        params.extra_args = extra
        params.max_tokens = 1 if score else self._longest - len(tokens)
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

    def step(self) -> Outcome:
        """One step of the engine."""
        outputs = self._client.get_output().outputs
        return Outcome(
            [out.request_id for out in outputs if out.new_token_ids],
            [out.request_id for out in outputs if out.finish_reason is not None],
            {
                out.request_id: told.logprobs[:, 0].double().cpu().numpy()
                for out in outputs
                if (told := out.new_prompt_logprobs_tensors) is not None
            },
        )
