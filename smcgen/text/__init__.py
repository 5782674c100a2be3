"""Text generation as a state-space model: engines that write, potentials that steer.

* engines: `Transformers`, `VLLM`, `VLLMRequests`, `Remote`
* when a step ends: `Step`; what tokens are drawn from: `Sampling`
* rewards: `ProcessReward`, `ClassifierReward`, `FunctionReward`; on vLLM `VLLMProcessReward`, `VLLMClassifierReward`,
  behind a server `RemoteReward`; made potentials by `Tilt`
* constraints and experts: `Regex`, `JSONSchema`, `Grammar`, `Choice`, `TokenMask`, `Expert`
* all compose: `Regex(r"\\d+") * prm ** 2 * where(is_math, Expert("..."))`
* to write one's own: `Engine` (`Session`, `Law`, `Extension`), `Reward` (`RewardSession`), `StepFormat`
* the model that puts them together: `TextModel`; the one call that runs it: `smcgen.steer`
"""

from typing import TYPE_CHECKING

from smcgen._lazy import lazy

if TYPE_CHECKING:
    from smcgen.text.answers import AnswerPosterior as AnswerPosterior
    from smcgen.text.engines import VLLM as VLLM
    from smcgen.text.engines import Remote as Remote
    from smcgen.text.engines import Transformers as Transformers
    from smcgen.text.engines import VLLMRequests as VLLMRequests
    from smcgen.text.engines.base import Engine as Engine
    from smcgen.text.engines.base import Extension as Extension
    from smcgen.text.engines.base import Law as Law
    from smcgen.text.engines.base import Session as Session
    from smcgen.text.factors import Choice as Choice
    from smcgen.text.factors import Expert as Expert
    from smcgen.text.factors import Grammar as Grammar
    from smcgen.text.factors import JSONSchema as JSONSchema
    from smcgen.text.factors import Regex as Regex
    from smcgen.text.factors import TokenMask as TokenMask
    from smcgen.text.model import TextModel as TextModel
    from smcgen.text.potentials.algebra import where as where
    from smcgen.text.potentials.base import Potential as Potential
    from smcgen.text.potentials.tilt import Tilt as Tilt
    from smcgen.text.prompts import Prompt as Prompt
    from smcgen.text.result import SteerResult as SteerResult
    from smcgen.text.rewards import ClassifierReward as ClassifierReward
    from smcgen.text.rewards import FunctionReward as FunctionReward
    from smcgen.text.rewards import ProcessReward as ProcessReward
    from smcgen.text.rewards import RemoteReward as RemoteReward
    from smcgen.text.rewards import Reward as Reward
    from smcgen.text.rewards import RewardSession as RewardSession
    from smcgen.text.rewards import StepFormat as StepFormat
    from smcgen.text.rewards import VLLMClassifierReward as VLLMClassifierReward
    from smcgen.text.rewards import VLLMProcessReward as VLLMProcessReward
    from smcgen.text.sampling import Sampling as Sampling
    from smcgen.text.steer import steer as steer
    from smcgen.text.steps import Step as Step
    from smcgen.text.texts import Finish as Finish
    from smcgen.text.texts import Texts as Texts

_FACTORS = ("Choice", "Expert", "Grammar", "JSONSchema", "Regex", "TokenMask")
_ENGINES = (
    *("Engine", "Extension", "Law", "Session"),
    *("Remote", "Transformers", "VLLM", "VLLMRequests"),
)
_REWARDS = (
    *("ClassifierReward", "FunctionReward", "ProcessReward"),
    *("RemoteReward", "VLLMClassifierReward", "VLLMProcessReward"),
    *("Reward", "RewardSession", "StepFormat"),
)
_NAMES = {
    "AnswerPosterior": "smcgen.text.answers",
    **dict.fromkeys(_ENGINES, "smcgen.text.engines"),
    **dict.fromkeys(_FACTORS, "smcgen.text.factors"),
    "TextModel": "smcgen.text.model",
    "where": "smcgen.text.potentials.algebra",
    "Potential": "smcgen.text.potentials.base",
    "Tilt": "smcgen.text.potentials.tilt",
    "Prompt": "smcgen.text.prompts",
    "SteerResult": "smcgen.text.result",
    **dict.fromkeys(_REWARDS, "smcgen.text.rewards"),
    "Sampling": "smcgen.text.sampling",
    "steer": "smcgen.text.steer",
    "Step": "smcgen.text.steps",
    "Finish": "smcgen.text.texts",
    "Texts": "smcgen.text.texts",
}
__all__ = [
    "AnswerPosterior",
    "Choice",
    "ClassifierReward",
    "Engine",
    "Expert",
    "Extension",
    "Finish",
    "FunctionReward",
    "Grammar",
    "JSONSchema",
    "Law",
    "Potential",
    "ProcessReward",
    "Prompt",
    "Regex",
    "Remote",
    "RemoteReward",
    "Reward",
    "RewardSession",
    "Sampling",
    "Session",
    "SteerResult",
    "Step",
    "StepFormat",
    "TextModel",
    "Texts",
    "Tilt",
    "TokenMask",
    "Transformers",
    "VLLM",
    "VLLMClassifierReward",
    "VLLMProcessReward",
    "VLLMRequests",
    "steer",
    "where",
]
__getattr__, __dir__ = lazy(__name__, _NAMES)
