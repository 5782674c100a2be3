"""Rewards by kind, as the command line asks for them; imported when one is asked for."""

from typing import Any

from smcgen.errors import InvalidArgument
from smcgen.text._arguments import asked, made

_MODULE = "smcgen.text.rewards"
REWARDS = {
    "process": (_MODULE, "ProcessReward"),
    "classifier": (_MODULE, "ClassifierReward"),
    "vllm-process": (_MODULE, "VLLMProcessReward"),
    "vllm-classifier": (_MODULE, "VLLMClassifierReward"),
    "remote": (_MODULE, "RemoteReward"),
}


def load_reward(kind: str, source: str, options: str | None = None) -> Any:
    """A reward on a model's path, name or (`remote`) address; `options` is JSON: its other arguments.

    Raises:
        UnknownName: there is no such kind.
        InvalidArgument: the options are not a JSON object, or not the reward's.
        SmcgenError: the model cannot be loaded.
    """
    make, arguments = asked("reward_kind", REWARDS, kind, "reward_args", options)
    try:
        return made("reward_args", make, source, arguments)
    except InvalidArgument as error:  # "model" would be taken for the one that writes
        if error.name != "model" or kind == "remote":
            raise
        raise InvalidArgument("reward", error.got, error.allowed) from error


def named_reward(kind: str, source: str | None, options: str | None) -> Any:
    """The same for arguments that may not be there; None without a source.

    Raises:
        InvalidArgument: there are arguments for a reward, and no reward.
    """
    if source is not None:
        return load_reward(kind, source, options)
    if options or kind != "process":
        given = "reward_args" if options else "reward_kind"
        raise InvalidArgument(given, "..." if options else kind, "nothing without --reward")
    return None
