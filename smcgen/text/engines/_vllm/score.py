"""Log-probabilities of given texts."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int

from smcgen.core.cost import Meter
from smcgen.text.engines._vllm.core import Core
from smcgen.text.engines._vllm.scheduler import SCORE
from smcgen.text.engines.base import Law
from smcgen.text.prompts import Prompt
from smcgen.text.sampling import Sampling


def score(
    core: Core, prompts: Sequence[Prompt], completions: Sequence[Sequence[int]], meter: Meter
) -> list[Float64[np.ndarray, " tokens"]]:
    """One pass: each text is read as a prompt, and vLLM reports its tokens' log-probabilities.

    What vLLM finds in its prefix cache it does not score, so the cache is used up to the end of the prompt and
    no further.
    """
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    found: list[np.ndarray] = [np.zeros(len(ids)) for ids in completions]
    asked = [i for i, ids in enumerate(completions) if len(ids)]

    def read(engine) -> None:
        waiting = set()
        for i in asked:
            start = len(prompts[i].ids)
            params = SamplingParams(
                temperature=0.0,
                max_tokens=1,
                detokenize=False,
                prompt_logprobs=0,
                flat_logprobs=True,
                skip_reading_prefix_cache=False,
                output_kind=RequestOutputKind.FINAL_ONLY,
                extra_args={SCORE: start - 1},
            )
            text = [*prompts[i].ids, *completions[i]]
            prompt = {"type": "token", "prompt_token_ids": text}
            engine.add_request(f"score-{i}", prompt, params)
            waiting.add(f"score-{i}")
        while waiting:
            for out in engine.step():
                if out.request_id in waiting and out.finished:
                    waiting.remove(out.request_id)
                    i = int(out.request_id.removeprefix("score-"))
                    start, count = len(prompts[i].ids), len(completions[i])
                    flat = out.prompt_logprobs
                    logs = [flat.logprobs[flat.start_indices[start + j]] for j in range(count)]
                    found[i] = np.array(logs, dtype=np.float64)

    core.run(read)
    for tokens in core.scheduler.take_prefilled().values():
        meter.add(tokens_prefilled=tokens + 1)
    return found


class _Reader:
    """A `Writer` whose tokens are given: what it writes is scored under any law."""

    factors = ()

    def __init__(
        self,
        core: Core,
        prompts: Sequence[Prompt],
        completions: Sequence[Sequence[int]],
        law: Law,
        meter: Meter,
    ):
        self.law, self._core, self._meter = law, core, meter
        self._heads, self._ids = [p.ids for p in prompts], completions
        self.logs = [np.zeros(len(ids)) for ids in completions]
        self._read = np.zeros(len(completions), dtype=np.int64)
        self._log_base = np.zeros(len(completions))
        self.requests: list[int | None] = [None] * len(completions)
        self.parents: list[int | None] = [None] * len(completions)

    @property
    def active(self) -> Sequence[int]:
        return [i for i, ids in enumerate(self._ids) if self._read[i] < len(ids)]

    def text(self, row: int) -> list[int]:
        return [*self._heads[row], *self._ids[row][: self._read[row]]]

    def uniforms(self, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        raise NotImplementedError  # `given` gives

    def given(self, rows: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"]:
        return np.array([self._ids[row][self._read[row]] for row in rows.tolist()])

    def put(self, rows: Int[np.ndarray, " m"], drawn: Float64[np.ndarray, "4 m"]) -> None:
        self._log_base[rows] = drawn[1]

    def advance(self, rows: Int[np.ndarray, " m"]) -> tuple[Sequence[int], Sequence[int]]:
        for row in rows.tolist():
            self.logs[row][self._read[row]] = self._log_base[row]
            self._read[row] += 1
        return [row for row in rows.tolist() if self._read[row] == len(self._ids[row])], []

    def read(self, tokens: int) -> None:
        self._meter.add(tokens_prefilled=tokens)

    def run(self) -> None:
        if active := self.active:
            self._core.write(self, active)
            self._meter.add(tokens_prefilled=int(self._read.sum()))
        self._core.abort(r for r in self.requests if r is not None)
        self._core.settle()


def score_stepwise(
    core: Core,
    prompts: Sequence[Prompt],
    completions: Sequence[Sequence[int]],
    sampling: Sampling,
    meter: Meter,
) -> list[Float64[np.ndarray, " tokens"]]:
    """Token by token, under any law."""
    reader = _Reader(core, prompts, completions, Law(sampling), meter)
    reader.run()
    return reader.logs
