"""The networks of the small diffusion models that ship with smcgen: torch modules that load from a folder.

`VectorDenoiser` is a denoiser of vectors (digits), `MLPClassifier` and `ConvClassifier` say which class an
image is of. All have `from_pretrained` and `save_pretrained` (safetensors and config.json).
"""

from typing import TYPE_CHECKING

from smcgen._lazy import lazy

if TYPE_CHECKING:
    from smcgen.diffusion.nets.classifiers import ConvClassifier as ConvClassifier
    from smcgen.diffusion.nets.classifiers import MLPClassifier as MLPClassifier
    from smcgen.diffusion.nets.denoiser import VectorDenoiser as VectorDenoiser

_NAMES = {
    "ConvClassifier": "smcgen.diffusion.nets.classifiers",
    "MLPClassifier": "smcgen.diffusion.nets.classifiers",
    "VectorDenoiser": "smcgen.diffusion.nets.denoiser",
}
__all__ = ["ConvClassifier", "MLPClassifier", "VectorDenoiser"]
__getattr__, __dir__ = lazy(__name__, _NAMES)
