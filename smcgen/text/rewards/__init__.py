"""Rewards: what scores a text, or each of its prefixes. See `base` for the contract.

`FunctionReward` calls any Python function, `ProcessReward` reads a process reward model as the text
grows, and `ClassifierReward` reads whole texts.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from smcgen.text.rewards.base import Reward as Reward
    from smcgen.text.rewards.base import RewardSession as RewardSession
    from smcgen.text.rewards.classifier import ClassifierReward as ClassifierReward
    from smcgen.text.rewards.formats import FORMATS as FORMATS
    from smcgen.text.rewards.formats import StepFormat as StepFormat
    from smcgen.text.rewards.function import FunctionReward as FunctionReward
    from smcgen.text.rewards.process import ProcessReward as ProcessReward

_HOMES = {
    "Reward": "base",
    "RewardSession": "base",
    "ClassifierReward": "classifier",
    "FORMATS": "formats",
    "StepFormat": "formats",
    "FunctionReward": "function",
    "ProcessReward": "process",
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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
