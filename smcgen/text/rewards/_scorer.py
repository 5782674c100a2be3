"""Loading process reward models, and reading their heads.

Three kinds of head are read: one label (sigmoid), two labels (softmax, the second is "good"), and a
language model's words. Two public families have classes of their own, which are written out here
for
their checkpoints, so that neither needs remote code: `Qwen2ForProcessRewardModel`
(Qwen2.5-Math-PRM) and `Qwen2ForPrmModel` (Skywork-o1-Open-PRM).
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    PreTrainedModel,
    Qwen2Config,
    Qwen2Model,
    Qwen2PreTrainedModel,
)
from transformers.modeling_outputs import TokenClassifierOutput

from smcgen.errors import InvalidArgument
from smcgen.hub import load_config, load_model, load_tokenizer, source_of

if TYPE_CHECKING:
    from smcgen.text.rewards.formats import StepFormat


class _Qwen2Step(Qwen2PreTrainedModel):
    """A Qwen2 body whose head answers at every token."""

    config_class = Qwen2Config
    base_model_prefix = "model"
    _keys_to_ignore_on_load_unexpected: ClassVar[list[str]] = [r"lm_head\."]

    def __init__(self, config: Qwen2Config):
        super().__init__(config)
        self.model = Qwen2Model(config)
        self._make_head(config.hidden_size)
        self.post_init()

    def _make_head(self, width: int) -> None:
        raise NotImplementedError

    def _head(self, hidden: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, *args: Any, **kwargs: Any) -> TokenClassifierOutput:
        logits: Any = self._head(self.model(*args, **kwargs).last_hidden_state)
        return TokenClassifierOutput(logits=logits)


class Qwen2ForProcessRewardModel(_Qwen2Step):
    """Qwen2.5-Math-PRM: a two-layer head with two labels."""

    def _make_head(self, width: int) -> None:
        self.score = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 2))

    def _head(self, hidden: Float[Tensor, "m k d"]) -> Float[Tensor, "m k 2"]:
        return self.score(hidden)


class Qwen2ForPrmModel(_Qwen2Step):
    """Skywork-o1-Open-PRM: a linear value head."""

    def _make_head(self, width: int) -> None:
        self.v_head = nn.ModuleDict({"summary": nn.Linear(width, 1)})

    def _head(self, hidden: Float[Tensor, "m k d"]) -> Float[Tensor, "m k 1"]:
        return self.v_head["summary"](hidden)


_OWN = {c.__name__: c for c in (Qwen2ForProcessRewardModel, Qwen2ForPrmModel)}


def architectures(model: str | Path | PreTrainedModel) -> tuple[list[str], str]:
    """The names of a model's classes, and its own."""
    if isinstance(model, PreTrainedModel):
        return [type(model).__name__], str(model.config._name_or_path)
    config = load_config(source_of("model", model))
    return list(config.get("architectures") or ()), f"{model} {config.get('_name_or_path', '')}"


def load_scorer(
    path: str | Path, form: "StepFormat", device: str, dtype: Any, trust_remote_code: bool
) -> tuple[PreTrainedModel, Any]:
    """A process reward model and its tokenizer.

    Raises:
        InvalidArgument: if its class is not known and remote code is not trusted.
    """
    source = source_of("model", path)
    config = load_config(source)
    names = list(config.get("architectures") or ())
    known = next((_OWN[n] for n in names if n in _OWN), None)
    if known is None and form.name == "skywork":
        known = Qwen2ForPrmModel
    options: dict[str, Any] = {}
    classes = " ".join(names)
    if known is not None:
        loader: Any = known
    elif "ForTokenClassification" in classes:
        loader = AutoModelForTokenClassification
    elif "ForSequenceClassification" in classes:
        loader = AutoModelForSequenceClassification
    elif form.words is not None:
        loader = AutoModelForCausalLM
    elif trust_remote_code:
        loader = AutoModel
    else:
        raise InvalidArgument(
            "model",
            str(path),
            "a token or sequence classifier, or a language model with a format that has words; "
            f"{classes!r} may come with code of its own, which runs if trust_remote_code=True",
        )
    if known is None:
        options["trust_remote_code"] = trust_remote_code
    model = load_model(loader, source, device, dtype, **options)
    return model, load_tokenizer(source, trust_remote_code=trust_remote_code)


def probabilities(
    outputs: Float[Tensor, "m out"], words: tuple[int, int] | None
) -> Float64[np.ndarray, " m"]:
    """P(good) from what a head says at a step's end.

    Raises:
        InvalidArgument: a head with more than two labels and no words to compare.
    """
    outputs = outputs.double()
    if words is not None:
        # Of the two words alone: softmax over both is the sigmoid of their difference.
        score = torch.sigmoid(outputs[:, words[0]] - outputs[:, words[1]])
    elif outputs.shape[1] == 1:
        score = torch.sigmoid(outputs[:, 0])
    elif outputs.shape[1] == 2:
        score = torch.sigmoid(outputs[:, 1] - outputs[:, 0])
    else:
        raise InvalidArgument(
            "model", f"a head with {outputs.shape[1]} outputs", "one or two labels, or `words`"
        )
    return score.cpu().numpy()
