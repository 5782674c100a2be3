"""What an engine outside this process is asked for, what it answers, and what such an answer must be."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float64

from smcgen.errors import EngineError
from smcgen.text.sampling import Sampling


class Request(NamedTuple):
    """A completion to ask for: of `ids`, up to `max_tokens` more or the first of `stop_ids`, which is kept."""

    ids: tuple[int, ...]
    max_tokens: int
    stop_ids: tuple[int, ...]
    seed: int


class Completion(NamedTuple):
    """What came: tokens, the log-probability of each under the law asked for (nats), and why it ended.

    `prefilled` is how many tokens of the request were read anew, None if nobody knows.
    """

    tokens: Sequence[int]
    log_probs: Sequence[float]
    finish: str  # "stop" or "length"
    prefilled: int | None = None


class Completer(Protocol):
    """Writes completions under one law, and scores texts under the model's own (temperature 1, all tokens)."""

    sampling: Sampling

    def complete(self, requests: Sequence[Request]) -> Sequence[Completion]:
        """One completion for each request; the same seed and ids give the same completion."""
        ...

    def score(
        self, texts: Sequence[tuple[int, ...]], starts: Sequence[int]
    ) -> list[Float64[np.ndarray, " k"]]:
        """Log-probabilities of the tokens of each text from its `start` on, nats."""
        ...


def checked(
    request: Request, completion: Completion, vocab_size: int, sampling: Sampling
) -> Float64[np.ndarray, " k"]:
    """The log-probabilities of a completion that can be one.

    Raises:
        EngineError: it says something that cannot be right.
    """
    tokens, logs = completion.tokens, completion.log_probs
    if not 0 < len(tokens) <= request.max_tokens:
        raise EngineError(
            f"{len(tokens)} tokens came where 1 to {request.max_tokens} were asked for"
        )
    wrong = [t for t in tokens if not isinstance(t, int | np.integer) or not 0 <= t < vocab_size]
    if wrong:
        raise EngineError(f"token {wrong[0]!r} came: the tokenizer knows [0, {vocab_size})")
    if completion.finish not in ("stop", "length"):
        raise EngineError(f"a completion ended by {completion.finish!r}, not 'stop' or 'length'")
    if sampling.temperature == 0:
        return np.zeros(len(tokens))  # greedy: whatever an engine says, the law is one token
    if len(logs) != len(tokens):
        raise EngineError(f"{len(logs)} log-probabilities came for {len(tokens)} tokens")
    try:
        values = np.asarray(logs, dtype=np.float64)
    except (TypeError, ValueError):
        values = np.full(len(tokens), np.nan)
    possible = (values > -9999) & (values < 1e-3)  # -9999 is how servers write minus infinity
    if not possible.all():
        k = int(np.flatnonzero(~possible)[0])
        raise EngineError(
            f"log-probability {logs[k]!r} came for the drawn token {tokens[k]}: expected a number <= 0"
        )
    return np.minimum(values, 0.0)
