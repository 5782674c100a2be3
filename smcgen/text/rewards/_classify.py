"""What every classifier does, whoever runs it: what is read of a text, and what is read of the head."""

from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from jaxtyping import Float, Float64, Int

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument, RewardError
from smcgen.text.prompts import Prompt
from smcgen.text.rewards._cache import ByContent
from smcgen.text.texts import Texts

if TYPE_CHECKING:
    import torch

_READS = ("joined", "pair", "chat", "completion")
_OUTPUTS = ("probability", "log_prob", "logit")


class Reading(Protocol):
    """The settings of a classifier; see `ClassifierReward`."""

    @property
    def tokenizer(self) -> Any: ...
    @property
    def label(self) -> Any: ...
    @property
    def output(self) -> Any: ...
    @property
    def reads(self) -> Any: ...
    @property
    def truncate(self) -> bool: ...
    @property
    def cache(self) -> int: ...


def check_reads(reads: str) -> None:
    """Before anything is loaded.

    Raises:
        InvalidArgument: a reading that does not exist.
    """
    if reads not in _READS:
        raise InvalidArgument("reads", reads, "one of " + ", ".join(map(repr, _READS)))


def settle(
    config: Any, tokenizer: Any, label: str | int | None, output: str | None, reads: str
) -> tuple[int, str]:
    """Index of the label, and the output, for a model of this configuration.

    Raises:
        InvalidArgument: a label the model does not have, or a choice that does not exist.
    """
    output = output or ("logit" if config.num_labels == 1 else "probability")
    if output not in _OUTPUTS:
        raise InvalidArgument("output", output, "one of " + ", ".join(map(repr, _OUTPUTS)))
    if reads == "chat" and not getattr(tokenizer, "chat_template", None):
        raise InvalidArgument("reads", "chat", "something else: no chat template")
    return _label_index(config, label), output


def _label_index(config: Any, label: str | int | None) -> int:
    names = [str(config.id2label[i]) for i in range(config.num_labels)]
    allowed = f"one of {', '.join(map(repr, names))}, or an index below {len(names)}"
    if label is None and len(names) == 1:
        return 0
    if isinstance(label, str) and names.count(label) == 1:
        return names.index(label)
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(names):
        return label
    raise InvalidArgument("label", label, allowed)


class ClassifierSession(ByContent):
    """Scores by content.

    Args:
        part: what is read of a text, and of the head.
        config: the model's configuration.
        meter: counts calls and tokens.
    """

    def __init__(self, part: Reading, config: Any, meter: Meter):
        self._part, self._config, self._meter = part, config, meter
        super().__init__(part.cache)
        tokenizer = part.tokenizer
        special = (tokenizer.bos_token_id, tokenizer.eos_token_id, 0)
        self._empty = next(i for i in special if i is not None)
        limits = (tokenizer.model_max_length, getattr(config, "max_position_embeddings", None))
        self._longest = min(x for x in limits if x is not None)

    def score(self, texts: Texts, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        items = [(texts.prompt(row), texts.text(row)) for row in rows.tolist()]
        keys = [(self._prompt_key(prompt), text) for prompt, text in items]
        return self._cache.scores(keys, lambda new: self._fresh([items[k] for k in new]))

    def _prompt_key(self, prompt: Prompt) -> str:
        reads = self._part.reads
        chat = repr(prompt.messages) if reads == "chat" and prompt.messages else prompt.text
        return "" if reads == "completion" else chat

    def _fresh(self, items: list[tuple[Prompt, str]]) -> Float64[np.ndarray, " m"]:
        encoded = [self._encode(prompt, text) for prompt, text in items]
        for e in encoded:  # an empty text still has a score
            for name in e:
                e[name] = e[name] or [self._empty if name == "input_ids" else 1]
        lengths = np.asarray([len(e["input_ids"]) for e in encoded])
        if not self._part.truncate and lengths.max() > self._longest:
            k = int(lengths.argmax())
            raise RewardError(
                f"a text of {lengths[k]} tokens is longer than the classifier's {self._longest}: "
                f"pass truncate=True to cut it ({items[k][1][:80]!r})"
            )
        logits, tokens = self._logits(encoded)
        self._meter.add(reward_calls=len(items), reward_tokens=tokens)
        return self._read(logits.double()).cpu().numpy()

    def _logits(
        self, encoded: list[dict[str, list[int]]]
    ) -> "tuple[Float[torch.Tensor, 'm labels'], int]":
        """What the head says of these texts, and how many tokens the model read for it."""
        raise NotImplementedError

    def _encode(self, prompt: Prompt, text: str) -> dict[str, list[int]]:
        tokenizer, reads = self._part.tokenizer, self._part.reads
        cut: dict[str, Any] = {"truncation": False, "verbose": False}
        if self._part.truncate:
            cut = {"truncation": True, "max_length": self._longest}
        if reads == "pair":
            return dict(tokenizer(prompt.text, text, **cut))
        if reads == "chat":
            before = list(prompt.messages or ({"role": "user", "content": prompt.text},))
            whole = tokenizer.apply_chat_template(
                [*before, {"role": "assistant", "content": text}], tokenize=False
            )
            return dict(tokenizer(whole, add_special_tokens=False, **cut))
        return dict(tokenizer(text if reads == "completion" else prompt.text + text, **cut))

    def _read(self, logits: "Float[torch.Tensor, 'b labels']") -> "Float[torch.Tensor, ' b']":
        import torch.nn.functional as F

        label = int(self._part.label or 0)
        if self._part.output == "logit":
            return logits[:, label]
        many = self._config.problem_type == "multi_label_classification"
        if logits.shape[1] == 1 or many:
            log_prob = F.logsigmoid(logits[:, label])
        else:
            log_prob = F.log_softmax(logits, dim=-1)[:, label]
        return log_prob if self._part.output == "log_prob" else log_prob.exp()
