"""The `Remote` engine: any model behind an OpenAI-compatible server, asked for completions of token ids.

Use it for models too large for this machine, or that several people share. Weights are exact as long as the server says
under which law a token was drawn; what acts on every token (constraints, experts) needs an engine in this process.
"""

from collections.abc import Sequence
from functools import cached_property
from numbers import Integral
from pathlib import Path
from typing import Any

from smcgen.core.arguments import check_counts
from smcgen.errors import InvalidArgument
from smcgen.text._http import Client
from smcgen.text._served import served
from smcgen.text.engines._completions import Completions
from smcgen.text.engines._probe import Probe
from smcgen.text.engines._request_engine import RequestEngine, end_ids, vocabulary
from smcgen.text.sampling import Sampling


class Remote(RequestEngine):
    """A language model behind `/v1/completions` of a vLLM server, or one that speaks like it.

    The server is asked for token ids, log-probabilities and seeded draws (`return_token_ids`, `logprobs`, `seed`). A
    law other than `Sampling()` or greedy needs a server started with `--logprobs-mode processed_logprobs`. At first
    use the server is asked once whether it reads text as `tokenizer` does.

    Args:
        base_url: such as "http://localhost:8000".
        model: as the server calls it; may be left out if it serves one.
        tokenizer: an object, folder or name; None takes the served model's name for one.
        api_key: a bearer token; None reads `SMCGEN_REMOTE_API_KEY`.
        timeout: seconds for one answer.
        retries: attempts after a failure that may pass (429, 5xx, no connection, no answer).
        max_concurrency: most requests under way at a time.
        batch_size: most completions in one request.
        max_length: most tokens in a prompt with its completion; None is one less than the server's limit,
            since scoring a text writes a token.
        eos_ids: tokens that end a text; None is the tokenizer's own. The server's count in any case.
        reproducible: every text has a seed of its own. The server takes one seed per request, so that only copies
            share a request. False sends all texts together and without a seed: fewer requests, the
            same law, and other texts each time.

    Attributes:
        tokenizer, max_length, eos_ids, name: see `smcgen.text.engines.base.Engine`; the name is the served model's.

    Raises:
        InvalidArgument: an argument that cannot be, or a model or tokenizer that the server does not have.
        ServerError: the server cannot be reached, here or later in a run.
        MissingExtra: without httpx.
    """

    concurrent = True

    def __init__(
        self,
        base_url: str,
        model: str | None = None,
        tokenizer: Any = None,
        *,
        api_key: str | None = None,
        timeout: float = 300.0,
        retries: int = 4,
        max_concurrency: int = 64,
        batch_size: int = 64,
        max_length: int | None = None,
        eos_ids: Sequence[int] | None = None,
        reproducible: bool = True,
    ):
        check_counts(batch_size=batch_size)
        self._client = Client(
            base_url, api_key, timeout=timeout, retries=retries, max_concurrency=max_concurrency
        )
        self._batch_size, self._reproducible = batch_size, reproducible
        card = served(self._client, model)
        self.name = str(card["id"])
        if tokenizer is None:
            tokenizer = str(card.get("root") or self.name)
        if isinstance(tokenizer, str | Path):
            from smcgen.hub import load_tokenizer, source_of

            tokenizer = load_tokenizer(source_of("tokenizer", tokenizer))
        self.tokenizer = tokenizer
        self.vocab_size = vocabulary(tokenizer)
        self.eos_ids = end_ids(tokenizer, eos_ids)
        self.max_length = _length(max_length, card.get("max_model_len"))

    def __repr__(self) -> str:
        return f"Remote({self._client.url!r}, {self.name!r})"

    def close(self) -> None:
        """Close the connections. Not needed: they are closed with the last reference to the engine."""
        self._client.close()

    @cached_property
    def _probe(self) -> Probe:
        return Probe(self._client, self.name, self.tokenizer)

    def _ready(self) -> None:
        self._probe.check_tokenizer()

    def _processed(self) -> bool:
        return self._probe.processed

    def _completer(self, sampling: Sampling) -> Completions:
        together = self._reproducible and self._batch_size > 1 and self._probe.children
        return Completions(
            self._client, self.name, sampling, self._batch_size, self._reproducible, together
        )


def _length(asked: int | None, limit: Any) -> int:
    most = limit - 1 if isinstance(limit, int) else None
    if asked is None and most is None:
        raise InvalidArgument(
            "max_length", None, "a number of tokens: the server does not say its limit"
        )
    whole = isinstance(asked, Integral) and not isinstance(asked, bool)
    if asked is not None and not (whole and 1 <= asked <= (asked if most is None else most)):
        bound = "an integer >= 1" if most is None else f"None or an integer in [1, {most}]"
        raise InvalidArgument("max_length", asked, bound)
    return asked if asked is not None else int(most or 0)
