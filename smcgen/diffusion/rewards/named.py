"""Published rewards of images, by name."""

from collections.abc import Callable
from typing import Any

from smcgen.errors import UnknownName


def _image_reward() -> Any:
    from smcgen.diffusion.rewards.images import ImageReward

    return ImageReward()


def _clip(**options: Any) -> Callable[[], Any]:
    def build() -> Any:
        from smcgen.diffusion.rewards.images import CLIPScore

        return CLIPScore(**options)

    return build


def _aesthetic() -> Any:
    from smcgen.diffusion.rewards.images import Aesthetic

    return Aesthetic()


_NAMES: dict[str, Callable[[], Any]] = {
    "imagereward": _image_reward,
    "clip": _clip(),
    # two CLIP models that were tuned on what people preferred (Kirstain et al. 2023; Wu et al. 2023); the
    # conversion of HPSv2 to transformers, since the package `hpsv2` reads its weights again at every call
    "pickscore": _clip(
        model="yuvalkirstain/PickScore_v1",
        processor="laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        output="logit",
    ),
    "hpsv2": _clip(model="adams-story/HPSv2-hf", processor="openai/clip-vit-base-patch32"),
    "aesthetic": _aesthetic,
}


def named(name: str) -> Any:
    """A published reward: "imagereward", "hpsv2", "pickscore", "clip" or "aesthetic".

    Its weights are downloaded at the first use.

    Raises:
        UnknownName: it is none of them.
        InvalidArgument: its weights cannot be had.
        MissingExtra: without torch or transformers.
    """
    key = name.lower().replace("-", "").replace("_", "").replace(" ", "")
    if key not in _NAMES:
        raise UnknownName("reward", name, _NAMES)
    return _NAMES[key]()
