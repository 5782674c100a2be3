"""What a person gives as a reward, as a `Reward`."""

import inspect
from dataclasses import replace
from typing import Any

import jax

from smcgen.diffusion.base import Kernel, Reward
from smcgen.diffusion.rewards.function import FunctionReward
from smcgen.diffusion.rewards.named import named
from smcgen.errors import InvalidArgument


def as_reward(
    reward: Any, kernel: Kernel, batch_size: int | None = None, dtype: str | None = None
) -> Any:
    """A `Reward` as it is; a published one by name; a function of samples, or of samples and prompts.

    A function that JAX can trace on what a JAX kernel decodes becomes part of the jitted run.

    Raises:
        InvalidArgument: it is none of them.
    """
    if isinstance(reward, str):
        reward = named(reward)
    if isinstance(reward, FunctionReward) and (batch_size or dtype):
        own = {"batch_size": reward.batch_size or batch_size, "dtype": reward.dtype or dtype}
        return replace(reward, **own)
    if reward is None or isinstance(reward, FunctionReward | Reward) or type(reward) is object:
        return reward  # JAX builds structures without contents
    if not callable(reward):
        raise InvalidArgument("reward", reward, "a function of a batch of samples, or a Reward")
    if _parameters(reward) < 2:
        traceable = kernel.backend.traceable and _traces(reward, kernel)
        return FunctionReward(reward, None, batch_size, dtype, traceable)
    if kernel.prompts is None:
        allowed = "a function of the samples alone: this model has no prompts"
        raise InvalidArgument("reward", f"a function of {_parameters(reward)} arguments", allowed)
    return FunctionReward(reward, tuple(kernel.prompts), batch_size, dtype)


def _parameters(function: Any) -> int:
    """How many positional arguments it must have."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in functions do not say
        return 1
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return sum(p.kind in positional and p.default is p.empty for p in parameters)


def _traces(reward: Any, kernel: Kernel) -> bool:
    """Whether JAX can trace it; nothing is computed."""
    rows = 2 * (kernel.num_problems or 1)

    def scores(key: Any) -> Any:
        x = kernel.draw_prior(key, rows)
        return jax.numpy.asarray(reward(kernel.decode(x)))

    key = jax.random.key(0)
    if kernel.num_problems is not None:
        key = jax.random.split(key, kernel.num_problems)
    try:
        jax.eval_shape(scores, key)
    except (
        Exception
    ):  # whatever is wrong with it shows, as what it is, when it is called on samples
        return False
    return True
