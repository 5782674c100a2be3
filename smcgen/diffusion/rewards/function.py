"""Any function of a batch of samples as a reward."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from smcgen.diffusion.backends.base import Index, Tensor
from smcgen.diffusion.rewards.microbatch import in_parts, joined, mapped, out_of_memory
from smcgen.errors import InvalidArgument, RewardError


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class FunctionReward:
    """`fn(samples)`, or `fn(samples, prompts)`: one number for each sample of the batch.

    The numbers may be a torch, JAX or NumPy array of shape (rows,), or a list. -inf forbids a sample at the end,
    and says nothing before it; NaN and +inf stop the run with the step and the particle.

    Args:
        fn: the function. It sees what the kernel decodes: images, texts, or the data itself.
        prompts: one for each problem; then `fn` also gets a list with each row's own prompt.
        batch_size: most rows at a time, decoding included; None: all. Halved where memory runs out.
        dtype: "bfloat16" or "float16": samples are handed over in half precision. Scores are read in double precision
            and weights computed in at least single, whatever the reward works in.
        traceable: `fn` is pure JAX, so that it can be part of a jitted run.

    Raises:
        RewardError: in a run, if `fn` fails or returns something else. Nothing is lost: `error.result`
            is the run before that step.
    """

    fn: Callable[..., Any]
    prompts: tuple[Any, ...] | None = field(default=None, metadata={"static": True})
    batch_size: int | None = field(default=None, metadata={"static": True})
    dtype: str | None = field(default=None, metadata={"static": True})
    traceable: bool = field(default=False, metadata={"static": True})

    def __post_init__(self) -> None:
        if self.batch_size is not None and (
            isinstance(self.batch_size, bool) or self.batch_size < 1
        ):
            raise InvalidArgument("batch_size", self.batch_size, "None or an integer >= 1")
        if self.dtype not in (None, "bfloat16", "float16"):
            raise InvalidArgument("dtype", self.dtype, "None, 'bfloat16' or 'float16'")
        if self.prompts is not None and self.traceable:
            raise InvalidArgument("prompts", self.prompts, "None for a traceable reward")

    def __call__(self, data: Tensor, problem: Index, decode: Callable[[Tensor], Any]) -> Any:
        if self.traceable:
            whole = lambda x: self._checked(self.fn(self._half(decode(x))), len(x))
            return mapped(whole, data, self.batch_size)

        def part(own: slice) -> Any:
            samples, rows = self._half(decode(_copied(data[own]))), own.stop - own.start
            if self.prompts is None:
                return self._checked(self._called(samples), rows)
            prompts = [self.prompts[b] for b in np.asarray(problem)[own].tolist()]
            return self._checked(self._called(samples, prompts), rows)

        return joined(in_parts(part, len(data), self.batch_size))

    def _called(self, *arguments: Any) -> Any:
        try:
            return self.fn(*arguments)
        except Exception as error:
            if out_of_memory(error):
                raise
            message = f"reward {self._name!r} failed: {type(error).__name__}: {error}"
            raise RewardError(message) from error

    @property
    def _name(self) -> str:
        return getattr(self.fn, "__qualname__", type(self.fn).__name__)

    def _half(self, samples: Any) -> Any:
        if self.dtype is None:
            return samples
        torch = sys.modules.get("torch")
        if torch is not None and isinstance(samples, torch.Tensor):
            return samples.to(getattr(torch, self.dtype))
        return jnp.asarray(samples, self.dtype)

    def _checked(self, scores: Any, rows: int) -> Any:
        expected = (
            f"expected {rows} numbers, one for each sample: an array of shape ({rows},) or a list"
        )
        if isinstance(scores, list | tuple):
            scores = _from_list(scores)
        if not hasattr(scores, "shape") or isinstance(scores, str):
            raise RewardError(f"reward {self._name!r} returned {type(scores).__name__}: {expected}")
        if tuple(scores.shape) != (rows,):
            raise RewardError(
                f"reward {self._name!r} returned shape {tuple(scores.shape)}: {expected}"
            )
        kind = getattr(scores.dtype, "kind", "f")  # torch's say nothing
        if kind not in "fiubV" or "complex" in str(scores.dtype):  # V: JAX's half precision
            raise RewardError(f"reward {self._name!r} returned {scores.dtype} values: {expected}")
        return scores


def _copied(rows: Tensor) -> Tensor:
    """Rows that a function may write into: those of the particles stay as they are."""
    torch = sys.modules.get("torch")
    return rows.clone() if torch is not None and isinstance(rows, torch.Tensor) else rows


def _from_list(scores: Any) -> Any:
    """A list of numbers or of scalar arrays as one array; of anything else, as it is."""
    torch = sys.modules.get("torch")
    if scores and torch is not None and all(isinstance(s, torch.Tensor) for s in scores):
        return torch.stack(list(scores)).reshape(len(scores), *scores[0].shape)
    if scores and all(isinstance(s, jax.Array) for s in scores):
        return jnp.stack(scores)
    try:
        return np.asarray(scores)
    except ValueError:
        return scores
