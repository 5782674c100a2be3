"""Rewards of images: functions of a batch of images in [0, 1], and of their prompts where they read them.

Give one to `smcgen.diffusion.steer` as it is, or by name ("imagereward", "hpsv2", "pickscore", "clip", "aesthetic");
`FunctionReward(reward, batch_size=8)` says how many images are decoded and scored at a time.
"""

from smcgen.errors import MissingExtra

try:
    import torch
    import transformers
except ImportError as error:
    raise MissingExtra("a reward of images", error.name or "transformers", "diffusers") from error

from smcgen.diffusion.rewards.images.aesthetic import Aesthetic as Aesthetic
from smcgen.diffusion.rewards.images.classifier import ImageClassifier as ImageClassifier
from smcgen.diffusion.rewards.images.clip import CLIPScore as CLIPScore
from smcgen.diffusion.rewards.images.image_reward import ImageReward as ImageReward
