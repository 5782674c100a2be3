"""What `smcgen.diffusion.steer` returns: weighted samples, and how they came about."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float64

from smcgen.core.cost import Cost
from smcgen.core.problem import OneProblem, problem_result
from smcgen.core.result import SMCResult
from smcgen.core.status import Status
from smcgen.diffusion.backends.jax import to_numpy
from smcgen.diffusion.base import Kernel
from smcgen.diffusion.pictures import to_pil
from smcgen.diffusion.rewards.microbatch import in_parts, joined
from smcgen.diffusion.state import Samples

_FAILED = (Status.ALL_WEIGHTS_ZERO, Status.NON_FINITE_POTENTIAL)


@dataclass(frozen=True, repr=False)
class SteerResult(OneProblem):
    """Samples of one prompt, weighted so that they estimate `pi(x) ∝ p(x) exp(strength r(x))`.

    Attributes:
        prompt: the prompt, None without one.
        data: the samples as the kernel made them (latents, tokens), n rows.
        rewards: r of each, shape (n,); NaN without a reward.
        weights: normalised weights, shape (n,); all zero if the run failed.
        cost: counted work (denoiser calls are `nfe`); of the whole call if several prompts were steered together.
        smc: the run (ESS, ancestors, ...).
    """

    prompt: Any
    data: Any
    rewards: Float64[np.ndarray, " n"]
    weights: Float64[np.ndarray, " n"]
    cost: Cost | None
    smc: SMCResult
    kernel: Kernel
    batch_size: int | None = None

    @cached_property
    def samples(self) -> Any:
        """The samples as a person sees them: images, texts, or the data itself. Decoded when first asked for."""
        return self._decoded(np.arange(len(self.weights)))

    @cached_property
    def images(self) -> list[Any]:
        """The samples as PIL images, if they are images in [0, 1] (those of a pipeline are)."""
        return to_pil(self.samples)

    def _decoded(self, rows: np.ndarray) -> Any:
        kernel = self.kernel
        with kernel.backend.inference():
            parts = in_parts(
                lambda i: kernel.finish(kernel.decode(self.data[rows[i]])),
                len(rows),
                self.batch_size,
            )
        return joined(parts)

    @property
    def best_index(self) -> int:
        """Index of the highest reward; without one, of the highest weight."""
        scores = self.weights if np.isnan(self.rewards).all() else self.rewards
        return int(np.nanargmax(scores))

    @property
    def best(self) -> Any:
        """The sample of highest reward. It is no draw from pi: the more particles, the more extreme."""
        return self._decoded(np.array([self.best_index]))[0]

    def sample(self, key: Any = 0, num: int | None = None) -> Any:
        """A sample drawn by weight (a draw from pi as n grows), or `num` of them."""
        drawn = self._decoded(np.asarray(self.smc.sample(key, num or 1)))
        return drawn[0] if num is None else drawn

    def expectation(self, fn: Callable[[Any], Any] = lambda samples: samples) -> Any:
        """Self-normalised estimate of `E_pi[fn(x)]`; `fn` maps the samples to an array with n rows."""
        values = np.asarray(to_numpy(fn(self.samples)), np.float64)
        spread = self.weights.reshape(-1, *(1,) * (values.ndim - 1))
        return np.sum(np.where(spread > 0, spread * values, 0.0), axis=0)

    def plot(self, **options: Any) -> Any:
        """Figure of ESS, evidence and genealogy (extra `plot`)."""
        return self.smc.plot(**options)

    def __repr__(self) -> str:
        about = "" if self.prompt is None else f"prompt={self.prompt!r}, "
        mean = np.sum(np.where(self.weights > 0, self.weights * self.rewards, 0.0))
        return (
            f"SteerResult({about}n_particles={len(self.weights)}, reward={mean:.4g} "
            f"(best {np.max(self.rewards):.4g}), log_evidence={self.log_evidence:.3f}"
            f"±{self.log_evidence_stderr:.3f}, ess={self.ess:.1f}, status={self.status.name}, cost={self.cost})"
        )


def by_problem(
    result: SMCResult, kernel: Kernel, problems: int | None, batch_size: int | None
) -> list[SteerResult]:
    """A run of a `DiffusionModel` as one result for each problem."""
    samples: Samples = result.particles
    results = []
    for b in range(problems or 1):
        own = problem_result(result, None if problems is None else b)
        data, reward = (x if problems is None else x[b] for x in samples)
        log_weights = np.asarray(own.log_weights, np.float64)
        weights = np.exp(log_weights - log_weights.max())
        weights = 0 * weights if int(own.status) in _FAILED else weights / weights.sum()
        rewards = np.asarray(reward, np.float64)
        history = _of_problem(result.history, None if problems is None else b)
        own = own.replace(particles=Samples(data, jnp.asarray(rewards)), history=history)
        prompt = None if kernel.prompts is None else kernel.prompts[b]
        results.append(
            SteerResult(prompt, data, rewards, weights, result.cost, own, kernel, batch_size)
        )
    return results


def _of_problem(history: Any, index: int | None) -> Any:
    """The records of one problem: over time a list, or stacked."""
    if history is None or index is None:
        return history
    if isinstance(history, list):
        return [jax.tree.map(lambda x: x[index], record) for record in history]
    return jax.tree.map(lambda x: x[:, index], history)
