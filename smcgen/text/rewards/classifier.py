"""Any sequence classifier as a reward: sentiment, toxicity, preference and outcome reward models.

It reads whole texts, at the end of every step if it is used for twists, at the end alone if it is
not (`Tilt`); for a score of every step at the price of that step, use `ProcessReward`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument, MissingExtra
from smcgen.text.prompts import Prompt
from smcgen.text.rewards._classify import ClassifierSession, check_reads, settle
from smcgen.text.rewards.base import Reward

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


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
        elsewhere: the model has a GPU of its own, so that it can score while the engine writes: see `Reward.elsewhere`.

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
    elsewhere: bool = field(default=False, kw_only=True)
    probability: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InvalidArgument("batch_size", self.batch_size, "an integer >= 1")
        check_reads(self.reads)
        model, tokenizer = self._load()
        label, output = settle(model.config, tokenizer, self.label, self.output, self.reads)
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "tokenizer", tokenizer)
        object.__setattr__(self, "output", output)
        object.__setattr__(self, "label", label)
        object.__setattr__(self, "probability", output == "probability")

    def _load(self) -> tuple[Any, Any]:
        if not isinstance(self.model, str | Path):
            if self.tokenizer is None:
                raise InvalidArgument("tokenizer", None, "a tokenizer, because the model is loaded")
            return self.model.eval(), self.tokenizer
        try:
            from transformers import AutoModelForSequenceClassification

            from smcgen.hub import load_model, load_tokenizer, source_of
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


class _ClassifierSession(ClassifierSession):
    """Texts in batches of like length, with padding."""

    def __init__(self, part: ClassifierReward, meter: Meter):
        self._model: Any = part.model
        super().__init__(part, self._model.config, meter)
        # Decoders find a text's end by its padding; without a padding token, one text at a time.
        padded = getattr(self._config, "pad_token_id", None) is not None
        self._size = part.batch_size if padded else 1

    def _logits(
        self, encoded: list[dict[str, list[int]]]
    ) -> "tuple[Float[torch.Tensor, 'm labels'], int]":
        import torch

        lengths = np.asarray([len(e["input_ids"]) for e in encoded])
        order = np.argsort(lengths, kind="stable")  # like lengths together: little padding
        starts = range(0, len(order), self._size)
        batches = [order[start : start + self._size] for start in starts]
        logits = torch.cat([self._forward([encoded[k] for k in batch]) for batch in batches])
        return logits[torch.from_numpy(np.argsort(order))], int(lengths.sum())

    def _forward(self, encoded: list[dict[str, list[int]]]) -> "Float[torch.Tensor, 'b labels']":
        import torch

        width = max(len(e["input_ids"]) for e in encoded)
        pad = self._config.pad_token_id
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
            return self._model(**inputs).logits.cpu()
