"""Search in one call."""

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Float64

from smcgen.core.arguments import check_counts
from smcgen.core.cost import Cost
from smcgen.core.smc import smc
from smcgen.diffusion.base import Kernel
from smcgen.diffusion.model import DiffusionModel
from smcgen.diffusion.rewards.resolve import as_reward
from smcgen.diffusion.searches.noise import NoiseSearch
from smcgen.diffusion.searches.paths import PathSearch
from smcgen.diffusion.steering import as_kernel
from smcgen.errors import InvalidArgument, UnknownName

Method = Literal["random", "zero-order", "paths"]


@dataclass(frozen=True, repr=False)
class SearchResult:
    """What a search found for one prompt.

    Attributes:
        prompt: the prompt, None without one.
        data: the best sample as the kernel made it, one row.
        reward: its reward.
        rewards: those of each round's candidates, shape (rounds, n); of "paths", of the paths that went on.
        cost: counted work; of the whole call if several prompts were searched together.
    """

    prompt: Any
    data: Any
    reward: float
    rewards: Float64[np.ndarray, "rounds n"]
    cost: Cost | None
    kernel: Kernel

    @cached_property
    def best(self) -> Any:
        """The best sample as a person sees it: an image, a text, or the data itself."""
        with self.kernel.backend.inference():
            return self.kernel.finish(self.kernel.decode(self.data))[0]

    @property
    def best_so_far(self) -> Float64[np.ndarray, " rounds"]:
        """The highest reward up to each round."""
        return np.maximum.accumulate(self.rewards.max(1))

    def __repr__(self) -> str:
        about = "" if self.prompt is None else f"prompt={self.prompt!r}, "
        rounds, n = self.rewards.shape
        return f"SearchResult({about}reward={self.reward:.4g}, rounds={rounds}, n={n}, cost={self.cost})"


def search(
    model: Any,
    reward: Any,
    *,
    prompt: Any = None,
    method: Method = "zero-order",
    n: int = 8,
    rounds: int = 8,
    size: float = 0.3,
    branches: int = 4,
    advance: int = 1,
    back: int = 1,
    batch_size: int | None = None,
    dtype: str | None = None,
    key: Any = 0,
    progress: bool = False,
    **options: Any,
) -> Any:
    """Look for a sample of high reward.

    Args:
        model, reward, prompt, batch_size, dtype, key, progress, **options: see `smcgen.diffusion.steer`.
        method: "random" (with one round: best-of-n), "zero-order" or "paths"; see `smcgen.diffusion.searches`.
        n: candidates in each round, or paths that are kept.
        rounds: how many.
        size: of zero-order moves, from 0 to 1.
        branches, advance, back: of searches over paths, see `PathSearch`.

    Returns:
        A `SearchResult`; a list of them for several prompts.

    Raises:
        InvalidArgument: an argument is not allowed, or the kernel's noise cannot be searched so.
        RewardError: the reward failed, or did not return one number for each sample.
    """
    if method not in get_args(Method):
        raise UnknownName("method", method, get_args(Method))
    check_counts(n=n, rounds=rounds, branches=branches, advance=advance)
    if not 0 < size <= 1:
        raise InvalidArgument("size", size, "a number in (0, 1]")
    kernel = as_kernel(model, prompt, options)
    base = DiffusionModel(
        kernel,
        as_reward(reward, kernel, batch_size, dtype),
        twist=None,
        num_problems=kernel.num_problems,
    )
    if base.reward is None:
        raise InvalidArgument(
            "reward", reward, "a function of a batch of samples: what is searched for"
        )
    if method == "paths":
        searched = PathSearch(base, rounds, branches, advance, back)
        if not 0 <= back <= searched.start:
            allowed = f"steps that there are: rounds * advance + back <= {base.num_steps}"
            raise InvalidArgument("rounds", rounds, allowed)
        needed = "renoise"
    else:
        searched = NoiseSearch(base, rounds, 1.0 if method == "random" else float(size))
        needed = "draw_prior" if method == "random" else "perturb"
    if needed in vars(Kernel) and getattr(type(kernel), needed) is getattr(Kernel, needed):
        raise InvalidArgument(
            "method", method, f"a method for {type(kernel).__name__}, which has no {needed}"
        )
    run = smc(searched, key, n, ess_threshold=0.0, keep="particles", progress=progress)
    cost = run.cost
    if base.traceable and cost is not None:
        work = searched.work(n)
        cost = replace(cost, nfe=work.nfe, reward_calls=work.reward_calls)
    rewards = np.stack([np.asarray(x, np.float64) for x in run.history])  # (rounds, *problems, n)
    rewards = rewards[1:] if method == "paths" else rewards  # paths have none at the beginning
    data, best = run.particles
    results = []
    for b in range(kernel.num_problems or 1):
        own = rewards if kernel.num_problems is None else rewards[:, b]
        about = None if kernel.prompts is None else kernel.prompts[b]
        found = float(np.asarray(best)[b])
        results.append(SearchResult(about, data[b : b + 1], found, own, cost, kernel))
    return results[0] if kernel.num_problems is None else results
