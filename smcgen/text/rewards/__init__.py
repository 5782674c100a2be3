"""Rewards: what scores a text, or each of its prefixes. See `base` for the contract.

`FunctionReward` calls any Python function, `ProcessReward` reads a process reward model as the text
grows, and `ClassifierReward` reads whole texts; `VLLMProcessReward`, `VLLMClassifierReward` and `RemoteReward` do
so on vLLM, here or behind a server.
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
    from smcgen.text.rewards.remote import RemoteReward as RemoteReward
    from smcgen.text.rewards.vllm import VLLMClassifierReward as VLLMClassifierReward
    from smcgen.text.rewards.vllm import VLLMProcessReward as VLLMProcessReward

_NAMES = {
    "Reward": "smcgen.text.rewards.base",
    "RewardSession": "smcgen.text.rewards.base",
    "ClassifierReward": "smcgen.text.rewards.classifier",
    "FORMATS": "smcgen.text.rewards.formats",
    "StepFormat": "smcgen.text.rewards.formats",
    "FunctionReward": "smcgen.text.rewards.function",
    "ProcessReward": "smcgen.text.rewards.process",
    "RemoteReward": "smcgen.text.rewards.remote",
    "VLLMClassifierReward": "smcgen.text.rewards.vllm",
    "VLLMProcessReward": "smcgen.text.rewards.vllm",
}
__all__ = [
    "Reward",
    "RewardSession",
    "ClassifierReward",
    "FORMATS",
    "StepFormat",
    "FunctionReward",
    "ProcessReward",
    "RemoteReward",
    "VLLMClassifierReward",
    "VLLMProcessReward",
]
__getattr__, __dir__ = lazy(__name__, _NAMES)
