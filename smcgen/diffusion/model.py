"""`DiffusionModel`: a denoising process steered by a reward, as a Feynman-Kac model.

    x_0 ~ p(x_0) pure noise,    x_t ~ q(. | x_{t-1}),    G_t = psi_t / psi_{t-1} * p / q,    psi_0 = 1

with `log psi_T = strength * r(x_T)`, so that

    Z = E_p[ exp(strength r(x_T)) ],    pi(x_{0:T}) ∝ p(x_{0:T}) exp(strength r(x_T))    whatever twist and proposal.

One class for Gaussian and masked kernels, JAX (the entire run is one jitted scan) and torch (driven from Python).
"""

from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import jax
import numpy as np

from smcgen.core._types import PyTree, RandomKey
from smcgen.core.arguments import check_counts
from smcgen.core.cost import Cost, Meter
from smcgen.diffusion.backends.base import Index, PerRow, Tensor, at
from smcgen.diffusion.base import Kernel, Proposal
from smcgen.diffusion.candidates import choose, split_keys
from smcgen.diffusion.counting import scorer, work_of
from smcgen.diffusion.pinning import Pinnable
from smcgen.diffusion.proposals.base import Base
from smcgen.diffusion.rewards.resolve import as_reward
from smcgen.diffusion.saving import Savable
from smcgen.diffusion.state import DiffusionRecord, DiffusionState, Samples
from smcgen.diffusion.steps import chosen_steps
from smcgen.diffusion.strengths import check_finite, check_guidance, checked_ladder
from smcgen.diffusion.twists.potentials import Difference
from smcgen.diffusion.twists.resolve import as_twist
from smcgen.errors import InvalidArgument

_PLAIN, _TWISTED, _LAST = 0, 1, 2


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class DiffusionModel(Pinnable, Savable):
    """A diffusion model steered by a reward.

    Attributes:
        kernel: the reverse process, with its denoiser.
        reward: r, or a function as `steer` takes it; None samples the base model.
        strength: lambda, so that the target is `p(x) exp(strength r(x))`.
        twist: what guides before the end, or its name; None: nothing (plain importance sampling).
        proposal: the law that is drawn from.
        candidates: M draws for each particle at every twisted step, of which one is kept in proportion
            to its weight; the weight is their mean, so the particle is properly weighted (nested importance
            sampling, Naesseth et al. 2015; the proposal of SVDD, Li et al. 2024, with its exact weight). Costs M
            times as much there.
        steps: the steps t = 1..T that may begin with a resampling: numbers, or an `Every` or `AtSteps`; None: all
            random ones but the first. The twist is evaluated just before them, at t - 1, and nowhere else is
            the reward called, but at the end.
        ladder: `strength_t / strength` for t = 0..T, the last of them 1; None: 1 everywhere.
        num_problems: how many prompts are steered together, resampling within each; None: as many as the kernel has.

    Raises:
        InvalidArgument: a strength that is not finite; a deterministic step among `steps`; a twist with a kernel that
            is deterministic throughout.
    """

    kernel: Kernel
    reward: Any = None
    strength: Any = 1.0
    twist: Any = Difference()
    proposal: Proposal = Base()
    candidates: int = field(default=1, metadata={"static": True})
    steps: Any = field(default=None, metadata={"static": True})
    ladder: Any = None
    num_problems: int | None = field(default=None, metadata={"static": True})

    def __post_init__(self) -> None:
        if not isinstance(self.kernel, Kernel):
            return  # JAX builds structures without contents
        prompts = self.kernel.num_problems
        if prompts is not None and self.num_problems not in (None, prompts):
            allowed = f"{prompts}, as the kernel has"
            raise InvalidArgument("num_problems", self.num_problems, allowed)
        settle = lambda name, value: object.__setattr__(self, name, value)
        settle("num_problems", self.num_problems if prompts is None else prompts)
        settle("reward", as_reward(self.reward, self.kernel))
        settle("twist", as_twist(self.twist))
        check_finite("strength", self.strength)
        check_counts(candidates=self.candidates)
        if getattr(self.proposal, "guided", False):
            check_guidance(self.kernel, self._steers)
        if self.steps is not None:
            settle("steps", chosen_steps(self.steps, self.kernel.deterministic))
        elif self._steers and not self.resampling_steps:
            raise InvalidArgument(
                "kernel",
                "one whose steps are deterministic",
                "random steps (eta > 0, temperature > 0): copies of a particle would stay copies; or twist=None, "
                "which weights the finished samples only",
            )
        settle("ladder", checked_ladder(self.ladder, self.num_steps, self._steers))

    @property
    def num_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """T."""
        return self.kernel.num_steps

    @property
    def traceable(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether kernel and reward are pure JAX."""
        return self.kernel.backend.traceable and (self.reward is None or self.reward.traceable)

    @property
    def _steers(self) -> bool:
        """Whether anything is looked at before the end."""
        looks = self.twist is not None and self.twist.value is not None
        return self.reward is not None and looks

    @cached_property
    def resampling_steps(self) -> tuple[int, ...]:
        """The steps that may begin with a resampling; the twist is evaluated one time before each."""
        return chosen_steps(self.steps, self.kernel.deterministic) if self._steers else ()

    @cached_property
    def _kinds(self) -> np.ndarray:
        """What happens at each time t = 0..T."""
        kinds = np.full(self.num_steps + 1, _PLAIN, np.int32)
        kinds[np.asarray(self.resampling_steps, np.int32) - 1] = _TWISTED
        kinds[-1] = _LAST
        return kinds

    @cached_property
    def _branches(self) -> tuple[list[int], np.ndarray]:
        """The kinds of steps there are, and which of them each time t is; t = 0 is none."""
        kinds, which = np.unique(self._kinds[1:], return_inverse=True)
        return kinds.tolist(), np.append(0, which)

    # ---- the Feynman-Kac model -------------------------------------------------------------------

    def init(self, key: RandomKey, n: int) -> tuple[DiffusionState, Any]:
        return self._first(key, n, None)

    def step(self, key: RandomKey, t: Any, state: DiffusionState) -> tuple[DiffusionState, Any]:
        return self._step(key, t, state, None)

    def take(self, state: DiffusionState, ancestors: Any) -> DiffusionState:
        xp = self.kernel.backend.xp
        ancestors = xp.asarray(ancestors).reshape(self._problems, -1)
        offsets = np.arange(self._problems)[:, None] * ancestors.shape[1]
        return self.kernel.backend.take(state, (ancestors + offsets).reshape(-1))

    def particles(self, state: DiffusionState) -> Samples:
        """The samples and their rewards."""
        return Samples(self._per_problem(state.x), self._per_problem(state.value))

    def cost(self, state: DiffusionState) -> Cost | None:
        """Calls of denoiser and reward so far; None inside a JAX program, see `work`."""
        return None if state.meter is None else state.meter.read()

    def work(self, n_particles: int) -> Cost:
        """What a run will cost: calls of the denoiser and of the reward, in rows."""
        return work_of(self, n_particles)

    def resamples(self, t: Any) -> Any:
        """Whether step t is one of `resampling_steps`."""
        return at(self._kinds == _TWISTED, t - 1)

    def _first(
        self, key: RandomKey, n: int, pinned: DiffusionRecord | None
    ) -> tuple[DiffusionState, Any]:
        kernel, rows = self.kernel, n * self._problems
        draw_key, value_key = split_keys(key, 2)
        x = kernel.draw_prior(draw_key, rows)
        state = self.from_noise(value_key, x if pinned is None else self._put(x, pinned))
        return state, self._per_problem(state.log_psi)

    def from_noise(self, key: RandomKey, x: Tensor, meter: Meter | None = None) -> DiffusionState:
        """The population of time 0 with these latents, a row each."""
        xp, rows = self.kernel.backend.xp, len(x)
        start = self.twist.start(rows, xp) if self.twist else ()
        meter = None if self.traceable else meter or Meter(memory=True)
        with self.kernel.backend.inference():
            gradient = x * 0 if self.proposal.guided else None
            unseen = xp.full(rows, xp.nan)
            before = DiffusionState(x, None, gradient, start, xp.zeros(rows), unseen, meter)
            return self._looked_at(int(self._kinds[0]), key, 0, x, before)

    def _step(
        self, key: RandomKey, t: Any, state: DiffusionState, pinned: DiffusionRecord | None
    ) -> tuple[DiffusionState, Any]:
        kinds, which = self._branches
        branches = [partial(self._moved, kind) for kind in kinds]
        index = at(which, t)
        with self.kernel.backend.inference():
            state, log_g = self.kernel.backend.switch(index, branches, key, t, state, pinned)
        return state, self._per_problem(log_g)

    def _moved(
        self,
        kind: int,
        key: RandomKey,
        t: Any,
        state: DiffusionState,
        pinned: DiffusionRecord | None,
    ) -> tuple[DiffusionState, PerRow]:
        """One step; at steps that are looked at, each particle is the best of its candidates by lot."""
        kernel, m = self.kernel, self._draws(kind)
        draw_key, value_key, choose_key = split_keys(key, 3)
        rows = len(state.log_psi)
        wide = state if m == 1 else kernel.backend.take(state, np.repeat(np.arange(rows), m))
        old = (t, wide.x, wide.prediction, wide.gradient)
        x = self.proposal.draw(draw_key, *old, kernel)
        x = x if pinned is None else self._put(x, pinned)
        log_ratio = kernel.backend.per_row(self.proposal.log_ratio(*old, x, kernel))
        new = self._looked_at(kind, value_key, t, x, wide)
        log_g = new.log_psi - wide.log_psi + log_ratio
        if m == 1:
            return new, log_g
        fixed = None if pinned is None else np.arange(self._problems) * (rows // self._problems)
        chosen, log_g = choose(choose_key, log_g.reshape(rows, m), fixed)
        xp = kernel.backend.xp
        return kernel.backend.take(new, np.arange(rows) * m + xp.asarray(chosen)), xp.asarray(log_g)

    def _draws(self, kind: int) -> int:
        """For each particle; a last step without noise has one outcome."""
        one = kind == _PLAIN or (kind == _LAST and self.kernel.deterministic[-1])
        return 1 if one else self.candidates

    def _looked_at(
        self, kind: int, key: RandomKey, t: Any, x: Tensor, before: DiffusionState
    ) -> DiffusionState:
        """x_t with its prediction, value and `log psi_t`; `before` has the same rows at t - 1."""
        kernel, backend = self.kernel, self.kernel.backend
        rows = len(before.log_psi)
        problem = self._problem_of(rows)
        meter, gradient = before.meter, None if before.gradient is None else x * 0
        score = scorer(self, meter)
        if kind == _LAST:
            if self.reward is None:
                return replace(before, x=x, gradient=gradient)
            value = backend.per_row(score(x, problem))
            return replace(
                before, x=x, gradient=gradient, value=value, log_psi=self.strength * value
            )
        if meter is not None:
            meter.add(nfe=rows)
        predict = lambda x: kernel.predict(t, x, problem, before.prediction)
        if kind == _PLAIN:
            return replace(before, x=x, prediction=predict(x), gradient=gradient)
        assert self.twist is not None
        assert self.twist.value is not None
        strength, look = self.strength * at(self.ladder, t), self.twist.value

        def seen(x: Tensor) -> tuple[Any, PyTree]:
            prediction = predict(x)
            value = look(key, t, x, prediction, problem, kernel, score, self.strength)
            return value, prediction

        if self.proposal.guided:
            value, prediction, gradient = backend.gradient(seen, x)
            gradient = strength * gradient
        else:
            value, prediction = seen(x)
        value, xp = backend.per_row(value), backend.xp
        log_psi, memory = self.twist.update(strength, value, before.memory, before.log_psi, xp)
        # -inf before the end means "not yet": the end may still be possible, and psi must not exclude it
        hopeless = value == -xp.inf
        keep = lambda new, old: xp.where(hopeless, old, new)
        return replace(
            before,
            x=x,
            prediction=prediction,
            gradient=gradient,
            memory=jax.tree.map(keep, memory, before.memory),
            log_psi=keep(log_psi, before.log_psi),
            value=value,
        )

    def predicted(
        self, key: RandomKey, t: Any, x: Tensor, before: DiffusionState
    ) -> DiffusionState:
        """The population with latents x at time t < T, and the prediction on them."""
        return self._looked_at(_PLAIN, key, t, x, before)

    def valued(self, t: Any, state: DiffusionState) -> DiffusionState:
        """The population of time t < T with the reward of its predicted data as value."""
        data = self.kernel.data(t, state.x, state.prediction)
        scores = scorer(self, state.meter)(data, self._problem_of(len(data)))
        return replace(state, value=self.kernel.backend.per_row(scores))

    def _problem_of(self, rows: int) -> Index:
        return np.repeat(np.arange(self._problems), rows // self._problems)
