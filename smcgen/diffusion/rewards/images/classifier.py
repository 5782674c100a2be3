"""Any image classifier as a reward."""

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from transformers import AutoImageProcessor, AutoModelForImageClassification

from smcgen.diffusion.rewards.images._models import model_of, processor_of
from smcgen.diffusion.rewards.images._pixels import Images, pixels_of
from smcgen.errors import InvalidArgument, UnknownName

Output = Literal["log_prob", "probability", "logit"]


@dataclass(frozen=True, eq=False)
class ImageClassifier:
    """The log-probability, probability or logit of a label, by `AutoModelForImageClassification`.

    With "log_prob" and strength 1 the target is `p(x | label) ∝ p(x) p(label | x)`, Bayes' rule.

    Args:
        model: a classifier by name or folder, or a loaded one.
        label: its name or index; may be left out if there is only one.
        output: "log_prob" (nats), "probability" or "logit". A head with one output is a logit, of which
            "log_prob" and "probability" are those of its sigmoid.
        processor: the classifier's image processor; needed with a loaded model.
        device, dtype: of a model that is loaded here; "auto": half precision on a GPU if there is one.

    Raises:
        InvalidArgument: a label that the model does not have.
    """

    model: Any
    label: str | int | None = None
    output: Output = "log_prob"
    processor: Any = field(default=None, repr=False)
    device: str = field(default="auto", kw_only=True)
    dtype: Any = field(default="auto", kw_only=True)
    _pixels: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.output not in get_args(Output):
            raise UnknownName("output", self.output, get_args(Output))
        settle = lambda name, value: object.__setattr__(self, name, value)
        settle("processor", processor_of(AutoImageProcessor, self.processor, self.model))
        loader = AutoModelForImageClassification
        settle("model", model_of(loader, self.model, self.device, self.dtype))
        settle("label", _index(self.model.config, self.label))
        settle("_pixels", pixels_of(self.processor))

    def __call__(self, images: Images) -> Float[torch.Tensor, " rows"]:
        """Scores of images in [0, 1]."""
        model = self.model
        pixels = self._pixels(images.to(model.device, torch.float32))
        logits = model(pixel_values=pixels.to(model.dtype)).logits.float()
        if self.output == "logit":
            return logits[:, self.label]
        if logits.shape[1] == 1:
            log_prob = torch.nn.functional.logsigmoid(logits[:, 0])
        else:
            log_prob = logits.log_softmax(-1)[:, self.label]
        return log_prob.exp() if self.output == "probability" else log_prob


def _index(config: Any, label: str | int | None) -> int:
    """A label's index."""
    names = {int(i): name for i, name in config.id2label.items()}
    if label is None and len(names) == 1:
        return 0
    if isinstance(label, int) and not isinstance(label, bool) and label in names:
        return label
    found = [i for i, name in names.items() if name == label]
    if len(found) == 1:
        return found[0]
    shown = [repr(name) for name in list(names.values())[:20]]
    more = "" if len(names) <= 20 else f", ... ({len(names)} in all)"
    allowed = f"an index from 0 to {len(names) - 1}, or one of {', '.join(shown)}{more}"
    raise InvalidArgument("label", label, allowed)
