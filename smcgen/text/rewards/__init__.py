"""Rewards: what scores a text, or each of its prefixes. See `base` for the contract.

`FunctionReward` calls any Python function, `ProcessReward` reads a process reward model as the text
grows, and `ClassifierReward` reads whole texts.
"""

from typing import TYPE_CHECKING

from smcgen._lazy import lazy

if TYPE_CHECKING:
    from smcgen.text.rewards.base import Reward as Reward
    from smcgen.text.rewards.base import RewardSession as RewardSession
    from smcgen.text.rewards.classifier import ClassifierReward as ClassifierReward
    from smcgen.text.rewards.formats import FORMATS as FORMATS
    from smcgen.text.rewards.formats import StepFormat as StepFormat
    from smcgen.text.rewards.function import FunctionReward as FunctionReward
    from smcgen.text.rewards.process import ProcessReward as ProcessReward

_NAMES = {
    "Reward": "smcgen.text.rewards.base",
    "RewardSession": "smcgen.text.rewards.base",
    "ClassifierReward": "smcgen.text.rewards.classifier",
    "FORMATS": "smcgen.text.rewards.formats",
    "StepFormat": "smcgen.text.rewards.formats",
    "FunctionReward": "smcgen.text.rewards.function",
    "ProcessReward": "smcgen.text.rewards.process",
}
__all__ = [
    "Reward",
    "RewardSession",
    "ClassifierReward",
    "FORMATS",
    "StepFormat",
    "FunctionReward",
    "ProcessReward",
]
__getattr__, __dir__ = lazy(__name__, _NAMES)
