"""What a server can do, found by asking it once."""

from functools import cached_property
from typing import Any

from smcgen.errors import EngineError, InvalidArgument
from smcgen.text._http import Client, ServerError
from smcgen.text.engines._completions import PATH, choices, sampled
from smcgen.text.sampling import Sampling

_HOT, _SEED, _SPREAD, _CHILDREN = 2.0, 12345, 24, 3


class Probe:
    """Questions to one served model; each is asked at most once, when it matters."""

    def __init__(self, client: Client, model: str, tokenizer: Any):
        self._client, self._model, self._tokenizer = client, model, tokenizer
        self._checked = False

    def check_tokenizer(self) -> None:
        """Send a text with pieces from all over the vocabulary, and compare its tokens.

        Raises:
            InvalidArgument: the server reads it otherwise.
        """
        if self._checked:
            return
        text, ids = self._text
        body = {**sampled(self._model, Sampling(0.0)), "max_tokens": 1, "prompt": text}
        answer = self._client.post(PATH, [body])[0]
        with self._client.reading():
            read = choices(answer, 1)[0].get("prompt_token_ids")
        if read is None:
            raise EngineError(
                f"{self._client.url} returns no token ids: a server with `return_token_ids` is needed, such as vLLM"
            )
        if list(read) != ids:
            raise InvalidArgument(
                "tokenizer",
                f"{type(self._tokenizer).__name__}: {text!r} is {ids[:12]}",
                f"the served model's, which reads {list(read)[:12]}",
            )
        self._checked = True

    @cached_property
    def processed(self) -> bool:
        """Whether log-probabilities are those of the law that is drawn from.

        With one token allowed, its log-probability is 0 under the law and log p(token) under the model; of two
        tokens, p cannot give both.
        """
        _, ids = self._text
        two = sorted(set(ids))[:2]
        law = sampled(self._model, Sampling())
        bodies = [{**law, "max_tokens": 1, "prompt": [ids], "allowed_token_ids": [i]} for i in two]
        said = []
        for answer in self._client.post(PATH, bodies):
            with self._client.reading():
                logs = choices(answer, 1)[0].get("logprobs")
            logs = logs.get("token_logprobs") if isinstance(logs, dict) else None
            if not logs or not isinstance(logs[0], int | float):
                raise EngineError(f"{self._client.url} returns no log-probabilities")
            said.append(logs[0])
        return len(said) == 2 and all(abs(log) < 1e-3 for log in said)

    @cached_property
    def children(self) -> bool:
        """Whether the j-th completion of a prompt draws like a request with j added to the seed."""
        _, ids = self._text
        body = {**sampled(self._model, Sampling(_HOT)), "max_tokens": 8, "prompt": [ids]}
        each = range(_CHILDREN)
        bodies = [{**body, "n": _CHILDREN, "seed": _SEED}]
        bodies += [{**body, "seed": _SEED + j} for j in each]
        try:
            all_, *alone = self._client.post(PATH, bodies)
            children = [choice.get("token_ids") for choice in choices(all_, _CHILDREN)]
            single = [choices(answer, 1)[0].get("token_ids") for answer in alone]
        except (ServerError, EngineError):
            return False  # a server without `n`
        return children == single and children[0] not in children[1:]

    @cached_property
    def _text(self) -> tuple[str, list[int]]:
        """A text with ordinary pieces from all over the vocabulary, and its tokens."""
        tokenizer = self._tokenizer
        size = len(tokenizer)
        spread = range(0, size, max(1, size // _SPREAD))
        pieces = [tokenizer.decode([i], skip_special_tokens=True) for i in spread]
        text = "".join(piece for piece in pieces if piece and "\ufffd" not in piece)
        ids = list(tokenizer(text, add_special_tokens=False)["input_ids"])
        if not ids:
            raise InvalidArgument("tokenizer", type(tokenizer).__name__, "one that can read text")
        return text, ids
