"""What all engines share that can only be asked for completions: which laws they can weight, `open` and `score`."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from smcgen.core.cost import Meter
from smcgen.errors import EngineError, InvalidArgument
from smcgen.text.engines._check import check_completions, check_prompts
from smcgen.text.engines._completer import Completer
from smcgen.text.engines._requests import RequestSession
from smcgen.text.engines.base import Law
from smcgen.text.prompts import Prompt
from smcgen.text.sampling import Sampling, covers

_COLDEST, _HOTTEST = 0.01, 2.0  # vLLM takes what is below for the former, and refuses what is above


class RequestEngine(ABC):
    """An `Engine` whose texts are written by a `Completer`.

    Attributes:
        tokenizer, max_length, eos_ids, name: see `smcgen.text.engines.base.Engine`.
        vocab_size: tokens that the tokenizer knows.
    """

    tokenizer: Any
    max_length: int
    eos_ids: frozenset[int]
    name: str
    vocab_size: int

    @abstractmethod
    def _completer(self, sampling: Sampling) -> Completer:
        """What draws from this law."""

    @abstractmethod
    def _processed(self) -> bool:
        """Whether log-probabilities come back under the law that was drawn from, not the model's own."""

    def _ready(self) -> None:  # noqa: B027 (most have nothing to do)
        """Called before texts are written or scored: a chance to check the other side."""

    def open(
        self,
        prompts: Sequence[Prompt],
        n: int,
        law: Law,
        meter: Meter,
        completions: Sequence[Sequence[int]] | None = None,
    ) -> RequestSession:
        """Start `n` particles on each prompt; see `smcgen.text.engines.base.Engine`.

        Raises:
            InvalidArgument: if a prompt is too long or holds ids that the tokenizer does not know, or the law
                cannot be weighted: token factors, a law whose log-probabilities the engine does not
                report, or a proposal for a base law other than `Sampling()`.
        """
        check_prompts(prompts, None, self.max_length, self.vocab_size)
        check_completions(completions, len(prompts) * n)
        drawn, rescore = self._drawn(law)
        self._ready()
        return RequestSession(
            self._completer(drawn),
            self.tokenizer,
            self.vocab_size,
            self.max_length,
            self.eos_ids,
            prompts,
            n,
            meter,
            completions,
            rescore,
        )

    def _drawn(self, law: Law) -> tuple[Sampling, bool]:
        """The law to ask for, and whether the base law has to be asked for on its own."""
        if law.factors:
            names = ", ".join(sorted({type(f).__name__ for f in law.factors}))
            raise InvalidArgument(
                "potential",
                names,
                f"no token factors (constraints, experts) with the engine {type(self).__name__}: what acts on every "
                "token needs an engine in this process, such as Transformers or VLLM",
            )
        base = law.base
        drawn = base if law.proposal is None else law.proposal
        rescore = drawn != base
        if rescore and base != Sampling():
            allowed = f"None, or a base law Sampling() (sampling={base}), the only one such an engine can score"
            raise InvalidArgument("proposal", drawn, allowed)
        if not covers(drawn, base):
            allowed = "a law that can draw every token that the base law allows: importance weights are wrong otherwise"
            raise InvalidArgument("proposal", drawn, allowed)
        if drawn.temperature != 0 and not _COLDEST <= drawn.temperature <= _HOTTEST:
            allowed = f"0 or a number in [{_COLDEST}, {_HOTTEST}], as vLLM draws"
            raise InvalidArgument("temperature", drawn.temperature, allowed)
        plain = drawn.temperature == 0 or drawn == Sampling()  # known without asking
        if not plain and not self._processed():
            raise InvalidArgument(
                "proposal" if rescore else "sampling",
                drawn,
                "Sampling() or temperature 0, because the engine reports log-probabilities of the model itself, not of "
                "the law it draws from: start it with --logprobs-mode processed_logprobs "
                "(LLM(..., logprobs_mode='processed_logprobs'))",
            )
        return drawn, rescore

    def score(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Sequence[int]],
        sampling: Sampling = Sampling(),
        meter: Meter | None = None,
    ) -> list[Float64[np.ndarray, " tokens"]]:
        """Log-probability in nats of every token of each completion, under the model's own law.

        Args:
            prompts: one per completion, or one for every `len(completions) / len(prompts)` of them in a row.
            completions: token ids.
            sampling: `Sampling()`; engines score texts under no other.
            meter: counts what is read, if given.

        Raises:
            InvalidArgument: if the numbers do not match, a text is too long, or another law is asked for.
        """
        if sampling != Sampling():
            raise InvalidArgument(
                "sampling", sampling, "Sampling(), the law that texts are scored by"
            )
        if not prompts or len(completions) % len(prompts):
            allowed = f"a multiple of the {len(prompts)} prompts"
            raise InvalidArgument("completions", len(completions), allowed)
        n = len(completions) // len(prompts)
        every = [p for p in prompts for _ in range(n)]
        check_prompts(every, completions, self.max_length, self.vocab_size)
        self._ready()
        texts = [(*p.ids, *map(int, c)) for p, c in zip(every, completions, strict=True)]
        found = [np.zeros(0) for _ in texts]
        some = [i for i, c in enumerate(completions) if len(c)]
        if some:
            starts = [len(every[i].ids) for i in some]
            logs = self._completer(Sampling()).score([texts[i] for i in some], starts)
            for i, values in zip(some, logs, strict=True):
                found[i] = values
        if meter is not None:
            meter.add(tokens_prefilled=sum(len(texts[i]) for i in some))
        return found


def vocabulary(tokenizer: Any) -> int:
    """One more than the largest id that a tokenizer knows."""
    return max(len(tokenizer), 1 + max(tokenizer.get_vocab().values(), default=0))


def end_ids(tokenizer: Any, given: Sequence[int] | None) -> frozenset[int]:
    """Tokens that end a text: those given, or the tokenizer's own."""
    if given is None:
        return frozenset({tokenizer.eos_token_id} - {None})
    size = vocabulary(tokenizer)
    if not all(0 <= i < size for i in given):
        raise InvalidArgument("eos_ids", list(given), f"token ids in [0, {size})")
    return frozenset(map(int, given))


def scored(
    text: Sequence[int], start: int, rows: Sequence[Any] | None
) -> Float64[np.ndarray, " k"]:
    """Log-probabilities of `text[start:]` from what an engine says of each of its tokens.

    `rows[j]` maps tokens to log-probabilities at place j (ids may be strings, as JSON has them).
    """
    if rows is None or len(rows) < len(text):
        raise EngineError(f"no log-probabilities came for a text of {len(text)} tokens")
    out = np.full(len(text) - start, np.nan)
    for k, token in enumerate(text[start:]):
        row = rows[start + k] or {}
        said = row.get(token, row.get(str(token)))
        value = said.get("logprob") if isinstance(said, dict) else getattr(said, "logprob", None)
        out[k] = np.nan if value is None else value
    if not ((out < 1e-3) & (out > -np.inf)).all():
        raise EngineError(f"log-probabilities came that are not numbers <= 0: {out[~(out < 1e-3)]}")
    return np.minimum(out, 0.0)
