"""vLLM with its engine core in other processes (tensor parallel, say), asked for completions by `LLM.generate`.

An engine core that dies is started again if there is a recipe for it, and is asked the same again: seeds belong to the
requests, so that the texts are the same.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from jaxtyping import Float64

from smcgen.core.arguments import check_counts
from smcgen.errors import EngineError, InvalidArgument, MissingExtra
from smcgen.text.engines._completer import Completion, Request
from smcgen.text.engines._request_engine import RequestEngine, end_ids, scored, vocabulary
from smcgen.text.engines._vllm_watched import watched
from smcgen.text.sampling import Sampling


class VLLMRequests(RequestEngine):
    """An engine over a `vllm.LLM`, or over a function that makes one.

    Args:
        llm: a `vllm.LLM`, or a function without arguments that starts one. Only a function can start it again after its
            engine core has died.
        tokenizer: an object; None is the one that the LLM has.
        max_length: most tokens in a prompt with its completion; None is one less than the LLM's limit, since scoring a
            text writes a token.
        eos_ids: tokens that end a text; None is the tokenizer's own. The LLM's count in any case.
        restarts: how often a dead engine core is started again for one call.

    Raises:
        InvalidArgument: an argument that cannot be.
        EngineError: in a run, if the engine core dies and is not, or cannot be, started again.
        MissingExtra: without vLLM.
    """

    def __init__(
        self,
        llm: Any,
        tokenizer: Any = None,
        *,
        max_length: int | None = None,
        eos_ids: Sequence[int] | None = None,
        restarts: int = 1,
    ):
        check_counts(0, restarts=restarts)
        self._core = _Restarted(llm, restarts)
        config = self._core.llm.llm_engine.model_config
        most = int(config.max_model_len) - 1
        if max_length is not None and not 0 < max_length <= most:
            raise InvalidArgument("max_length", max_length, f"None or an integer in [1, {most}]")
        self.max_length = max_length or most
        self.tokenizer = self._core.llm.get_tokenizer() if tokenizer is None else tokenizer
        self.vocab_size = vocabulary(self.tokenizer)
        self.eos_ids = end_ids(self.tokenizer, eos_ids)
        self.name = str(config.model)
        self._mode = str(config.logprobs_mode)
        if not self._mode.endswith("logprobs"):
            allowed = "'raw_logprobs' or 'processed_logprobs'"
            raise InvalidArgument("logprobs_mode", self._mode, allowed)

    def _processed(self) -> bool:
        return self._mode == "processed_logprobs"

    def _completer(self, sampling: Sampling) -> "LLMCompleter":
        return LLMCompleter(self._core.generate, sampling)


class LLMCompleter:
    """A `Completer` over `generate(prompts, sampling_params)` of a `vllm.LLM`."""

    def __init__(
        self, generate: Callable[[list[dict[str, Any]], list[Any]], list[Any]], sampling: Sampling
    ):
        try:
            from vllm import SamplingParams
        except ImportError as error:
            raise MissingExtra("a vllm.LLM", "vllm", "vllm") from error
        self.sampling = sampling
        self._generate, self._params = generate, SamplingParams
        self._law = {
            "temperature": sampling.temperature,
            "top_k": sampling.top_k or 0,
            "top_p": sampling.top_p,
            "detokenize": False,
        }

    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """See `smcgen.text.engines._completer.Completer`."""
        params = [
            self._params(
                **self._law,
                seed=request.seed,
                max_tokens=request.max_tokens,
                stop_token_ids=list(request.stop_ids),
                logprobs=0,  # of the drawn token alone
            )
            for request in requests
        ]
        answers = self._generate([_prompt(request.ids) for request in requests], params)
        return [_completion(answer) for answer in answers]

    def score(
        self, texts: Sequence[tuple[int, ...]], starts: Sequence[int]
    ) -> list[Float64[np.ndarray, " k"]]:
        """See `smcgen.text.engines._completer.Completer`."""
        params = self._params(temperature=0.0, max_tokens=1, prompt_logprobs=0, detokenize=False)
        answers = self._generate([_prompt(ids) for ids in texts], [params] * len(texts))
        return [
            scored(ids, start, answer.prompt_logprobs)
            for ids, start, answer in zip(texts, starts, answers, strict=True)
        ]


class _Restarted:
    """A `vllm.LLM` that is made again when its engine core has died."""

    def __init__(self, llm: Any, restarts: int):
        self._make = None if hasattr(llm, "generate") else llm
        if self._make is not None and not callable(self._make):
            raise InvalidArgument("llm", llm, "a vllm.LLM, or a function that makes one")
        self.llm: Any = watched(llm if self._make is None else self._make())
        self._restarts = restarts

    def generate(self, prompts: list[dict[str, Any]], params: list[Any]) -> list[Any]:
        """One output for each prompt, in order.

        Raises:
            EngineError: the engine core died too often, or outputs are missing.
        """
        for left in range(self._restarts, -1, -1):
            llm = self._started()
            try:
                answers = llm.generate(prompts, params, use_tqdm=False)
            except Exception as error:
                if not self._dead(error):
                    self._abort()
                    raise
                if self._make is None:
                    hint = "pass a function that makes the LLM, and it is started again"
                    raise EngineError(f"vLLM's engine core died ({error}): {hint}") from error
                if not left:
                    times = f"after {self._restarts} restarts"
                    raise EngineError(f"vLLM's engine core died {times} ({error})") from error
                self._end()
                continue
            except BaseException:
                self._abort()
                raise
            if len(answers) != len(prompts):
                got = f"{len(answers)} outputs for {len(prompts)} prompts"
                raise EngineError(f"vLLM returned {got}")
            return answers
        raise AssertionError("the last attempt returns or raises")

    def _dead(self, error: Exception) -> bool:
        """Whether it was the engine core's end; who asks it at that moment finds a socket closed."""
        from vllm.v1.engine.exceptions import EngineDeadError

        resources = getattr(self.llm.llm_engine.engine_core, "resources", None)
        return isinstance(error, EngineDeadError) or getattr(resources, "engine_dead", False)

    def _end(self) -> None:
        with suppress(Exception):  # what is left of the dead one: its other workers, sockets
            self.llm.llm_engine.engine_core.shutdown()
        self.llm = None  # before the new one, so that its memory is free

    def _started(self) -> Any:
        """The LLM, made again if the last one has ended; a call that fails, or is interrupted, leaves none."""
        if self.llm is None and self._make is not None:
            try:
                self.llm = watched(self._make())
            except Exception as error:
                raise EngineError(f"vLLM cannot be started again ({error})") from error
        return self.llm

    def _abort(self) -> None:
        """After an interrupt, an engine must not go on with what nobody waits for."""
        with suppress(Exception):
            engine = self.llm.llm_engine
            engine.abort_request(list(engine.output_processor.request_states), internal=True)


def _prompt(ids: Sequence[int]) -> dict[str, Any]:
    return {"prompt_token_ids": list(ids)}


def _completion(answer: Any) -> Completion:
    """vLLM's output as ids and numbers."""
    output = answer.outputs[0]
    tokens = list(output.token_ids)
    logs = [_log(row, token) for row, token in zip(output.logprobs or [], tokens, strict=False)]
    cached = answer.num_cached_tokens
    read = None if cached is None else len(answer.prompt_token_ids) - cached
    return Completion(tokens, logs, str(output.finish_reason), read)


def _log(row: Any, token: int) -> float:
    said = row.get(token) if row else None
    return np.nan if said is None else float(said.logprob)
