"""A `Completer` over `/v1/completions`: what is sent, in how many requests, and what is read from the answers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from smcgen.errors import EngineError
from smcgen.text._http import Client
from smcgen.text.engines._completer import Completion, Request
from smcgen.text.engines._request_engine import scored
from smcgen.text.sampling import Sampling

PATH = "/v1/completions"
# a server fills in what a request leaves out from the model's own generation settings
_NEUTRAL = {
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "add_special_tokens": False,
    "return_token_ids": True,
    "logprobs": 0,  # of the drawn token alone
}


class Completions:
    """Completions of a served model under one law.

    vLLM takes one seed in a request: the first completion of a prompt has it, the next one the following number
    (`together`, which is probed), and other prompts the same, so that a list of prompts would share their draws. With
    seeds, only copies therefore go into one request; without, all do.
    """

    def __init__(
        self,
        client: Client,
        model: str,
        sampling: Sampling,
        batch_size: int,
        seeded: bool = True,
        together: bool = False,
    ):
        self.sampling = sampling
        self._client, self._model, self._size = client, model, batch_size
        # greedy texts need no seeds, and vLLM wants each of them asked for on its own or in a list
        self._seeded, self._together = seeded and sampling.temperature > 0, together

    def complete(self, requests: Sequence[Request]) -> list[Completion]:
        """See `smcgen.text.engines._completer.Completer`."""
        groups = self._groups(requests)
        answers = self._client.post(PATH, [self._body([requests[i] for i in g]) for g in groups])
        out: dict[int, Completion] = {}
        with self._client.reading():
            for group, answer in zip(groups, answers, strict=True):
                asked = [requests[i].ids for i in group]
                out.update(zip(group, _completions(answer, asked), strict=True))
        return [out[i] for i in range(len(requests))]

    def _groups(self, requests: Sequence[Request]) -> list[list[int]]:
        """Which requests go together."""
        groups: list[list[int]] = []
        open_: dict[Any, list[int]] = {}
        for i, request in enumerate(requests):
            key: Any = (request.max_tokens, request.stop_ids)
            if self._seeded:
                key = (*key, request.ids)
            group = open_.get(key)
            fits = group is not None and len(group) < self._size
            if fits and self._seeded and group is not None:
                first = requests[group[0]].seed
                fits = self._together and request.seed == first + len(group)
            if fits and group is not None:
                group.append(i)
            else:
                groups.append([i])
                open_[key] = groups[-1]
        return groups

    def _body(self, group: Sequence[Request]) -> dict[str, Any]:
        first = group[0]
        body = {
            **sampled(self._model, self.sampling),
            "max_tokens": first.max_tokens,
            "stop_token_ids": first.stop_ids,
        }
        if self._seeded:
            return {**body, "prompt": [first.ids], "n": len(group), "seed": first.seed}
        return {**body, "prompt": [request.ids for request in group]}

    def score(
        self, texts: Sequence[tuple[int, ...]], starts: Sequence[int]
    ) -> list[Float64[np.ndarray, " k"]]:
        """See `smcgen.text.engines._completer.Completer`; by `prompt_logprobs`, which vLLM servers have."""
        parts = [
            range(i, min(i + self._size, len(texts))) for i in range(0, len(texts), self._size)
        ]
        bodies = [
            {
                **sampled(self._model, Sampling(0.0)),
                "max_tokens": 1,
                "prompt_logprobs": 0,
                "prompt": [texts[i] for i in part],
            }
            for part in parts
        ]
        answers = self._client.post(PATH, bodies)
        with self._client.reading():
            rows = [
                _read(choice, ids).get("prompt_logprobs")
                for part, answer in zip(parts, answers, strict=True)
                for choice, ids in zip(
                    choices(answer, len(part)), texts[part.start :], strict=False
                )
            ]
        return [scored(t, s, row) for t, s, row in zip(texts, starts, rows, strict=True)]


def sampled(model: str, sampling: Sampling) -> dict[str, Any]:
    """The part of a request that says what to draw from, and what to answer."""
    law = {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or 0,
    }
    return {"model": model, **law, **_NEUTRAL}


def choices(answer: Any, count: int) -> list[Mapping[str, Any]]:
    """The completions of an answer, in order.

    Raises:
        EngineError: there are more or fewer than asked for.
    """
    found = answer.get("choices") if isinstance(answer, dict) else None
    if not isinstance(found, list) or not all(isinstance(c, dict) for c in found):
        raise EngineError(f"an answer without completions came: {answer!r}")
    if sorted(str(c.get("index")) for c in found) != sorted(map(str, range(count))):
        raise EngineError(
            f"completions {[c.get('index') for c in found]} came where {count} were asked for"
        )
    return sorted(found, key=lambda choice: int(choice["index"]))


def _read(choice: Mapping[str, Any], ids: Sequence[int]) -> Mapping[str, Any]:
    """A completion of these tokens.

    Raises:
        EngineError: the server says that it is one of others.
    """
    read = choice.get("prompt_token_ids")
    if read is not None and list(read) != list(ids):
        sent = f"{len(ids)} tokens that begin {list(ids[:8])}"
        raise EngineError(f"the server was sent {sent}, and read {len(read)} that begin {read[:8]}")
    return choice


def _completions(answer: Any, asked: Sequence[tuple[int, ...]]) -> list[Completion]:
    """The completions of an answer as ids and numbers; tokens read are those of all, on the first."""
    out = []
    found = choices(answer, len(asked))
    read = _prefilled(answer.get("usage"))
    for k, choice in enumerate(found):
        ids = _read(choice, asked[k]).get("token_ids")
        if not isinstance(ids, list):
            raise EngineError(
                "no token ids came with a completion: a server with `return_token_ids` is needed, such as vLLM"
            )
        logs = choice.get("logprobs")
        logs = logs.get("token_logprobs") if isinstance(logs, dict) else None
        mine = None if read is None else read * (k == 0)
        out.append(Completion(ids, logs or [], str(choice.get("finish_reason")), mine))
    return out


def _prefilled(usage: Any) -> int | None:
    """Prompt tokens that were read and not found in a cache, if the server says so."""
    details = usage.get("prompt_tokens_details") if isinstance(usage, dict) else None
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    if not isinstance(cached, int) or not isinstance(usage.get("prompt_tokens"), int):
        return None
    return max(0, usage["prompt_tokens"] - cached)
