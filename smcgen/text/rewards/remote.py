"""Rewards on a server: classifiers, reward models and process reward models behind a vLLM pooling server.

One server can score for many runs, on another machine than the policy's. A text is sent whole, once, and its score is
kept by content. vLLM's prefix cache saves a classifier from reading earlier steps again, but not a scorer of tokens.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument, RewardError
from smcgen.text._http import Client
from smcgen.text._served import served
from smcgen.text.prompts import Prompt
from smcgen.text.rewards._cache import ByContent
from smcgen.text.rewards._encode import StepEncoder
from smcgen.text.rewards._pooling import CLASSIFY, ENDPOINTS, Read, Sent, score_all
from smcgen.text.rewards.base import Reward
from smcgen.text.rewards.formats import StepFormat, as_format
from smcgen.text.texts import Row, Texts


@dataclass(frozen=True, eq=False)
class RemoteReward(Reward):
    """A classifier of whole texts, or with `format` a process reward model, on a vLLM pooling server.

    A classifier's score is the probability, log-probability or logit of a label, given the prompt and the text so far.
    A process reward model's is the probability that the latest step is good, read where the step ends.

    Args:
        base_url: such as "http://localhost:8000".
        model: as the server calls it; may be left out if it serves one.
        format: of a process reward model, a `StepFormat` or its name (`smcgen.text.rewards.formats`); steps are sent as
            token ids. None is a classifier.
        tokenizer: of the served model, for a format that reads text and for `reads="chat"`; None is the policy's.
        label: index of a classifier's label; may be left out if there is one.
        output: of a classifier: "probability", "log_prob" (nats) or "logit", which suits reward models.
        reads: of a classifier: "joined" is prompt and text as one, "pair" two texts for `/score`, "chat" a chat by the
            tokenizer's template, "completion" the text alone.
        endpoint: "classify", "pooling" or "score"; None goes by the rest.
        api_key: a bearer token; None reads `SMCGEN_REMOTE_API_KEY`.
        timeout, retries, max_concurrency: see `smcgen.text.engines.Remote`.
        batch_size: most texts in one request.
        cache: how many scores to remember by content.

    Raises:
        InvalidArgument: choices that do not go together, or a model that the server does not have.
        ServerError: the server cannot be reached, or refuses: a text is too long, say.
        RewardError: in a run, an answer that is not one finite number per text.
        MissingExtra: without httpx.
    """

    base_url: InitVar[str]
    model: str | None = None
    format: str | StepFormat | None = None
    tokenizer: Any = field(default=None, repr=False)
    label: int | None = field(default=None, kw_only=True)
    output: Literal["probability", "log_prob", "logit"] = field(default="probability", kw_only=True)
    reads: Literal["joined", "pair", "chat", "completion"] = field(default="joined", kw_only=True)
    endpoint: Literal["classify", "pooling", "score"] | None = field(default=None, kw_only=True)
    # no fields: neither a server's address nor a key makes a run another one, and keys are not shown
    api_key: InitVar[str | None] = field(default=None, kw_only=True)
    timeout: InitVar[float] = field(default=300.0, kw_only=True)
    retries: InitVar[int] = field(default=4, kw_only=True)
    max_concurrency: InitVar[int] = field(default=8, kw_only=True)
    batch_size: int = field(default=32, kw_only=True)
    cache: int = field(default=100_000, kw_only=True)
    probability: bool = field(default=False, init=False)
    elsewhere = True

    def __post_init__(
        self,
        base_url: str,
        api_key: str | None,
        timeout: float,
        retries: int,
        max_concurrency: int,
    ) -> None:
        self._check()
        client = Client(
            base_url, api_key, timeout=timeout, retries=retries, max_concurrency=max_concurrency
        )
        form = None if self.format is None else as_format(self.format)
        endpoint = self.endpoint or ("pooling" if form else CLASSIFY.get(self.reads, "classify"))
        given = {
            "format": form,
            "endpoint": endpoint,
            "model": str(served(client, self.model)["id"]),
            "probability": form is not None or self.output == "probability",
            "_client": client,
        }
        for name, value in given.items():
            object.__setattr__(self, name, value)

    def _check(self) -> None:
        if self.batch_size < 1:
            raise InvalidArgument("batch_size", self.batch_size, "an integer >= 1")
        if self.output not in ("probability", "log_prob", "logit"):
            raise InvalidArgument("output", self.output, "'probability', 'log_prob' or 'logit'")
        if self.reads not in ("joined", "pair", "chat", "completion"):
            raise InvalidArgument("reads", self.reads, "'joined', 'pair', 'chat' or 'completion'")
        if self.endpoint not in (None, *ENDPOINTS):
            raise InvalidArgument("endpoint", self.endpoint, f"None or one of {ENDPOINTS}")
        if (self.reads == "pair") != (self.endpoint == "score") and self.endpoint is not None:
            raise InvalidArgument("endpoint", self.endpoint, "'score' with reads='pair' alone")
        if self.format is None:
            return
        if as_format(self.format).words is not None:
            allowed = "a format without words: a pooling server has a head, and no next token"
            raise InvalidArgument("format", as_format(self.format).name, allowed)
        plain = (self.label, self.output, self.reads)
        if plain != (None, "probability", "joined") or self.endpoint not in (None, "pooling"):
            what = "label, output, reads or endpoint"
            raise InvalidArgument(
                "format", self.format, f"None with {what}, which are a classifier's"
            )

    def open_reward(
        self, prompts: Sequence[Prompt], n: int, tokenizer: Any, meter: Meter
    ) -> "_RemoteSession":
        return _RemoteSession(self, tokenizer, meter)


class _RemoteSession(ByContent):
    """What a text is sent as, and the scores so far."""

    def __init__(self, part: RemoteReward, tokenizer: Any, meter: Meter):
        self._part, self._meter = part, meter
        super().__init__(part.cache)
        own = tokenizer if part.tokenizer is None else part.tokenizer
        self._own, self._encoder = own, None
        if isinstance(part.format, StepFormat):
            if part.format.chat == "ids" and own is not tokenizer:
                _check_same(own, tokenizer)
            self._encoder = StepEncoder(part.format, own)
        elif part.reads == "chat" and not getattr(own, "chat_template", None):
            raise InvalidArgument("reads", "chat", "something else: no chat template")

    def score(self, texts: Texts, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        sent = [self._sent(texts, row) for row in rows.tolist()]
        return self._cache.scores(
            [_key(s) for s in sent], lambda new: self._fresh([sent[k] for k in new])
        )

    def _sent(self, texts: Texts, row: Row) -> Sent:
        """A row's text as the server reads it: text, a pair of texts, or token ids."""
        part, prompt = self._part, texts.prompt(row)
        if self._encoder is not None:
            assert isinstance(part.format, StepFormat)
            if part.format.chat == "ids":
                return (*prompt.ids, *texts.tokens(row))
            ids = list(self._encoder.prompt(prompt))
            # a step of nothing but an end-of-text token is no step of the solution
            pieces = texts.step_texts(row)
            steps = [p for k, p in enumerate(pieces) if p.strip() or k == 0]
            for index, piece in enumerate(steps):
                ids += self._encoder.step(piece, index)
            return tuple(ids)
        text = texts.text(row)
        if part.reads == "pair":
            return prompt.text, text
        if part.reads == "completion":
            return text
        if part.reads == "joined":
            return prompt.text + text
        before = list(prompt.messages or ({"role": "user", "content": prompt.text},))
        ids = self._own.apply_chat_template(
            [*before, {"role": "assistant", "content": text}], return_dict=False
        )
        return tuple(int(i) for i in ids)

    def _fresh(self, sent: list[Sent]) -> Float64[np.ndarray, " m"]:
        part = self._part
        read = Read(
            str(part.endpoint), str(part.model), part.output, part.label, self._encoder is not None
        )
        scores, tokens = score_all(part._client, read, sent, part.batch_size)  # type: ignore[attr-defined]
        self._meter.add(reward_calls=len(sent), reward_tokens=tokens)
        if np.isnan(scores).any():
            raise RewardError(f"the reward {part.model!r} returned NaN for {sent[0]!r:.100}")
        return scores


def _key(sent: Sent) -> Any:
    """What is sent, or a digest of it: ids would fill a cache."""
    if isinstance(sent, str) or (sent and isinstance(sent[0], str)):
        return sent
    return hashlib.blake2b(np.asarray(sent, np.int64).tobytes(), digest_size=16).digest()


def _check_same(own: Any, policy: Any) -> None:
    """Token ids can only pass through if they mean the same on both sides."""
    if own.get_vocab() != policy.get_vocab():
        allowed = "a format that reads text: the reward model's vocabulary is not the policy's"
        raise InvalidArgument("format", "token", allowed)
