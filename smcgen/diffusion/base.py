"""Denoising as a state-space model: the parts that a `DiffusionModel` is put together from.

Time runs with the generation: `x_0` at t = 0 is pure noise (or all masks), `x_T` at t = T is data. What the field calls
"x_0 given x_t" is called *the data*: `data`, never `x_0`, to keep the two apart.

    kernel    how x_t follows from x_{t-1}: the base law p, with its denoiser           Kernel
    reward    r(data), what is wanted                                                  Reward
    value     v_t, what the reward will probably be, seen from x_t                     Value
    twist     log psi_t, made of the values so far; log psi_T = lambda r(x_T), always  Twist
    proposal  another law q to draw x_t from; the weight has p / q                     Proposal

One step from t - 1 to t: the proposal draws x_t from the kernel's law, known from x_{t-1} and the prediction on it;
the kernel predicts on x_t (the one call of the denoiser); the value looks at the prediction (the call of the
reward, only at times where the twist may be used); `log G_t = log psi_t - log psi_{t-1} + log p - log q`.

Rows. Every array that belongs to particles has one row a particle, leading: row = problem * n + particle. What
is per particle (latents, predictions, a solver's history, running maxima, gradients) is in the state or in the
*prediction*, both pytrees, and is moved by one `take`. `problem` is the problem's index of each row, shape
(rows,): what belongs to a prompt (its embeddings, its text) is looked up by it and never moves. Rows come in
order of problems, and may be more than n for each (several candidates or draws a particle).

Keys are one JAX key, or one for each problem, as the core hands them out; `backend.normal` takes both.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

from smcgen.core._types import PyTree, RandomKey
from smcgen.diffusion.backends.base import Backend, Index, PerRow, Tensor

Denoiser = Callable[..., Any]
"""`fn(x, time)`, or `fn(x, time, problem)` if the kernel is `conditional`: what a network makes of noisy rows.

x has shape (rows, ...); `time` is the schedule's own number for time t (a DDPM timestep, a sigma, a flow time),
one for all rows; the result has one row for each row of x. A torch module, torch function or JAX function.
"""


class Kernel(ABC):
    """The reverse process: the base law `p(x_{0:T})` that is steered.

    `prediction` is whatever `predict` returns: a pytree of arrays, rows leading, that with x_t determines the law of
    x_{t+1}: all that the denoiser was called for, and a solver's history if it has one.

    Attributes:
        num_steps: T.
        backend: whose tensors these are: `JAX`, or `Torch(device, dtype)`.
        deterministic: for each step t = 1..T, whether x_t is a function of x_{t-1}. The population is never
            resampled before such a step: copies would stay copies.
        num_problems: how many prompts it is for; None for one, or if it has none.
        prompts: one for each problem, for rewards that read them; None if it has none.
    """

    num_steps: int
    backend: Backend
    deterministic: tuple[bool, ...]
    num_problems: int | None = None
    prompts: tuple[Any, ...] | None = None

    @abstractmethod
    def draw_prior(self, key: RandomKey, rows: int) -> Tensor:
        """`x_0 ~ p(x_0)`: noise, shape (rows, ...)."""

    @abstractmethod
    def predict(self, t: Any, x: Tensor, problem: Index, before: PyTree) -> PyTree:
        """One call of the denoiser on x_t, for t = 0..T-1.

        `before` is the prediction on x_{t-1} that these rows came from, None at t = 0: a multistep solver
        finds its history in it, and passes on what it needs in its own prediction.
        """

    @abstractmethod
    def draw(self, key: RandomKey, t: Any, x: Tensor, prediction: PyTree) -> Tensor:
        """`x_t ~ p(x_t | x_{t-1})` given x_{t-1} and the prediction on it, for t = 1..T."""

    @abstractmethod
    def log_prob(self, t: Any, x: Tensor, prediction: PyTree, new: Tensor) -> PerRow:
        """`log p(x_t = new | x_{t-1} = x)`, nats. Of a deterministic step: 0 where `new` is the outcome, else -inf."""

    @abstractmethod
    def data(self, t: Any, x: Tensor, prediction: PyTree) -> Tensor:
        """The prediction as data: `E[data | x_t]` or the like, what a reward looks at before the end."""

    def draw_data(self, key: RandomKey, t: Any, x: Tensor, prediction: PyTree, k: int) -> Tensor:
        """k draws of the data given x_t, exact or approximate, for many-sample values.

        Shape (rows * k, ...); those of row i are rows i k to i k + k - 1. Default: this kernel has none.
        """
        raise NotImplementedError

    def perturb(self, key: RandomKey, x: Tensor, size: Any) -> Tensor:
        """Noise near x, by a move that leaves `p(x_0)` invariant; `size` from 0 (x itself) to 1 (independent).

        For searches over noise. Default: this kernel's noise cannot be searched.
        """
        raise NotImplementedError

    def renoise(self, key: RandomKey, t: Any, back: Any, x: Tensor) -> Tensor:
        """`x_back ~ p(x_back | x_t = x)`, back <= t: the noising process. For searches over paths."""
        raise NotImplementedError

    def decode(self, data: Tensor) -> Any:
        """Data as rewards and people see them: images of latents, texts of tokens. Default: as they are.

        Called in microbatches, by the reward and for the final samples.
        """
        return data

    def finish(self, samples: Any) -> Any:
        """What is done to decoded samples that are handed out (a safety checker). Default: nothing."""
        return samples

    def step_variance(self, t: Any) -> Any:
        """Variance of one entry of x_t given x_{t-1}: how far a gradient may push. Continuous kernels only."""
        raise NotImplementedError

    def log_shift(
        self, t: Any, x: Tensor, prediction: PyTree, new: Tensor, shift: Tensor
    ) -> PerRow:
        """`log p(new) - log p(new - shift)`: the weight of a draw that was moved by `shift`."""
        before = self.log_prob(t, x, prediction, new - shift)
        return self.log_prob(t, x, prediction, new) - before


@runtime_checkable
class Reward(Protocol):
    """r: one number for each row of data. Larger is better; the target is `p(x) exp(strength r(x))`."""

    @property
    def traceable(self) -> bool:
        """Whether it is pure JAX."""
        ...

    def __call__(self, data: Tensor, problem: Index, decode: Callable[[Tensor], Any]) -> Any:
        """Scores, shape (rows,): a tensor of the backend (differentiable if guidance asks for it) or NumPy.

        `decode` is the kernel's; it is applied here so that both are done in the same microbatches.
        """
        ...


class Scorer(Protocol):
    """The reward as values see it: counted, timed, checked."""

    def __call__(self, data: Tensor, problem: Index) -> Any:
        """Scores, shape (rows,)."""
        ...


class Value(Protocol):
    """v_t: what the reward of x_T will be, as far as x_t tells; in the reward's unit.

    Any function will do: it changes the variance, never the target. The best one is
    `v_t = 1/strength log E_p[exp(strength r(x_T)) | x_t]`.
    """

    def __call__(
        self,
        key: RandomKey,
        t: Any,
        x: Tensor,
        prediction: PyTree,
        problem: Index,
        kernel: Kernel,
        score: Scorer,
        strength: Any,
    ) -> Any:
        """Values, shape (rows,): a tensor of the backend or NumPy."""
        ...

    def reward_calls(self, rows: int) -> int:
        """Rows of data that it asks the reward about, for `rows` particles."""
        ...


class Twist(Protocol):
    """`log psi_t` from the values so far. At the end `log psi_T = strength r(x_T)`, whatever the twist.

    `memory` is what it must remember of each particle (a running maximum, a sum): a pytree of arrays of
    shape (rows,), moved with the particle. xp is `numpy` or `jax.numpy`.
    """

    @property
    def value(self) -> Value | None:
        """What it looks at; None: nothing before the end (plain importance sampling, best-of-N)."""
        ...

    def start(self, rows: int, xp: Any) -> PyTree:
        """Memory of particles that have seen no value."""
        ...

    def update(
        self, strength: Any, value: PerRow, memory: PyTree, log_psi: PerRow, xp: Any
    ) -> tuple[PerRow, PyTree]:
        """`log psi_t` and the new memory, from v_t, the memory and `log psi` as it stood."""
        ...


class Proposal(Protocol):
    """q: the law that x_t is drawn from.

    `gradient` is that of `strength_t v_t` at x_{t-1}, computed with the value; None unless `guided`.
    """

    @property
    def guided(self) -> bool:
        """Whether it uses gradients."""
        ...

    def draw(
        self,
        key: RandomKey,
        t: Any,
        x: Tensor,
        prediction: PyTree,
        gradient: Tensor,
        kernel: Kernel,
    ) -> Tensor:
        """`x_t ~ q`."""
        ...

    def log_ratio(
        self,
        t: Any,
        x: Tensor,
        prediction: PyTree,
        gradient: Tensor,
        new: Tensor,
        kernel: Kernel,
    ) -> Any:
        """`log p(new) - log q(new)`, shape (rows,); 0. if q is p."""
        ...
