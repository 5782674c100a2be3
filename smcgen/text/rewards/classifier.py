"""Any sequence classifier as a reward: sentiment, toxicity, preference and outcome reward models.

It reads whole texts, at the end of every step if it is used for twists, at the end alone if it is
not (`Tilt`); for a score of every step at the price of that step, use `ProcessReward`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float, Float64, Int

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument, MissingExtra, RewardError
from smcgen.text.prompts import Prompt
from smcgen.text.rewards._cache import ScoreCache
from smcgen.text.rewards.base import Reward
from smcgen.text.texts import Texts

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_READS = ("joined", "pair", "chat", "completion")
_OUTPUTS = ("probability", "log_prob", "logit")


@dataclass(frozen=True, eq=False)
class ClassifierReward(Reward):
    """The probability, log-probability or logit of a label, given a prompt and its completion.

    Args:
        model: an `AutoModelForSequenceClassification` by name or folder, or a loaded one; encoders
            and decoders alike.
        tokenizer: the classifier's; needed with a loaded model.
        label: its name or index; may be left out if there is only one.
        output: "probability" (softmax, or sigmoid for a single or multi-label head), "log_prob"
            (nats) or "logit"; None is the logit of a one-label reward model, else the probability.
        reads: "joined": prompt and completion as one text; "pair": as a text pair; "chat": as a
            chat by the tokenizer's template; "completion": the completion alone.
        truncate: cut texts that are longer than the model allows, instead of refusing them.
        device, dtype, trust_remote_code: as for `ProcessReward`.
        batch_size: most texts in one forward pass.
        cache: how many scores to remember by content.

    Raises:
        InvalidArgument: a label the model does not have, or a choice that does not exist.
        RewardError: in a run, a text that is too long.
        MissingExtra: without torch and transformers.
    """

    model: "str | Path | PreTrainedModel"
    tokenizer: Any = field(default=None, repr=False)
    label: str | int | None = None
    output: Literal["probability", "log_prob", "logit"] | None = None
    reads: Literal["joined", "pair", "chat", "completion"] = field(default="joined", kw_only=True)
    truncate: bool = field(default=False, kw_only=True)
    device: str = field(default="auto", kw_only=True)
    dtype: Any = field(default="auto", kw_only=True)
    trust_remote_code: bool = field(default=False, kw_only=True)
    batch_size: int = field(default=32, kw_only=True)
    cache: int = field(default=100_000, kw_only=True)
    probability: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.reads not in _READS:
            raise InvalidArgument("reads", self.reads, "one of " + ", ".join(map(repr, _READS)))
        if self.batch_size < 1:
            raise InvalidArgument("batch_size", self.batch_size, "an integer >= 1")
        model, tokenizer = self._load()
        output = self.output or ("logit" if model.config.num_labels == 1 else "probability")
        if output not in _OUTPUTS:
            raise InvalidArgument("output", output, "one of " + ", ".join(map(repr, _OUTPUTS)))
        if self.reads == "chat" and not getattr(tokenizer, "chat_template", None):
            raise InvalidArgument("reads", "chat", "something else: no chat template")
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "tokenizer", tokenizer)
        object.__setattr__(self, "output", output)
        object.__setattr__(self, "label", _label_index(model.config, self.label))
        object.__setattr__(self, "probability", output == "probability")

    def _load(self) -> tuple[Any, Any]:
        if not isinstance(self.model, str | Path):
            if self.tokenizer is None:
                raise InvalidArgument("tokenizer", None, "a tokenizer, because the model is loaded")
            return self.model.eval(), self.tokenizer
        try:
            from transformers import AutoModelForSequenceClassification

            from smcgen.text._torch.load import load_model, load_tokenizer, source_of
        except ImportError as error:
            raise MissingExtra("ClassifierReward", "transformers", "text") from error
        source, hub = source_of("model", self.model), {"trust_remote_code": self.trust_remote_code}
        loader = AutoModelForSequenceClassification
        model = load_model(loader, source, self.device, self.dtype, **hub)
        tokenizer = self.tokenizer if self.tokenizer is not None else load_tokenizer(source, **hub)
        return model, tokenizer

    def open_reward(
        self, prompts: Sequence[Prompt], n: int, tokenizer: Any, meter: Meter
    ) -> "_ClassifierSession":
        return _ClassifierSession(self, meter)


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


class _ClassifierSession:
    """The classifier with its cache. Content is all that matters, so rows may move as they like."""

    def __init__(self, part: ClassifierReward, meter: Meter):
        self._part, self._meter = part, meter
        self._model: Any = part.model
        self._cache = ScoreCache(part.cache)
        config, tokenizer = self._model.config, part.tokenizer
        # Decoders find a text's end by its padding; without a padding token, one text at a time.
        self._size = part.batch_size if getattr(config, "pad_token_id", None) is not None else 1
        special = (tokenizer.bos_token_id, tokenizer.eos_token_id, 0)
        self._empty = next(i for i in special if i is not None)
        limits = (tokenizer.model_max_length, getattr(config, "max_position_embeddings", None))
        self._longest = min(x for x in limits if x is not None)

    def score(self, texts: Texts, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        items = [(texts.prompt(row), texts.text(row)) for row in rows.tolist()]
        keys = [(self._prompt_key(prompt), text) for prompt, text in items]
        return self._cache.scores(keys, lambda new: self._fresh([items[k] for k in new]))

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        pass

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        pass

    def close(self) -> None:
        self._cache = ScoreCache(0)

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
        out = np.empty(len(items))
        order = np.argsort(lengths, kind="stable")  # like lengths together: little padding
        for start in range(0, len(order), self._size):
            chosen = order[start : start + self._size]
            out[chosen] = self._forward([encoded[k] for k in chosen])
        self._meter.add(reward_calls=len(items), reward_tokens=int(lengths.sum()))
        return out

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

    def _forward(self, encoded: list[dict[str, list[int]]]) -> Float64[np.ndarray, " b"]:
        import torch

        width = max(len(e["input_ids"]) for e in encoded)
        pad = self._model.config.pad_token_id
        fill = {"input_ids": 0 if pad is None else pad}
        inputs = {
            name: torch.tensor(
                [e[name] + [fill.get(name, 0)] * (width - len(e[name])) for e in encoded],
                device=self._model.device,
            )
            for name in encoded[0]
            if name in ("input_ids", "attention_mask", "token_type_ids")
        }
        with torch.inference_mode():
            return self._read(self._model(**inputs).logits.double()).cpu().numpy()

    def _read(self, logits: "Float[torch.Tensor, 'b labels']") -> "Float[torch.Tensor, ' b']":
        import torch.nn.functional as F

        label = int(self._part.label or 0)
        if self._part.output == "logit":
            return logits[:, label]
        many = self._model.config.problem_type == "multi_label_classification"
        if logits.shape[1] == 1 or many:
            log_prob = F.logsigmoid(logits[:, label])
        else:
            log_prob = F.log_softmax(logits, dim=-1)[:, label]
        return log_prob if self._part.output == "log_prob" else log_prob.exp()
