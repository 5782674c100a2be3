"""Masked discrete diffusion: every position starts as a mask and is revealed at one of T steps.

With m_t the share that is masked (1 at t = 0, 0 at t = T) a step reveals some of the masked positions (an `Order` says
which) and draws their tokens from the network, each by itself:

    p(x_t | x_{t-1}) = P(S | x_{t-1}) prod_{l in S} p(x_t^l | x_{t-1}),    S = the positions revealed at t

* MDLM (Sahoo et al. 2024, "SUBS"): `order="random"`, each masked position is in S with probability `1 - m_t / m_{t-1}`;
* ReMDM (Wang et al. 2025): the same with `remask` > 0, revealed positions are masked again with some probability;
* LLaDA, Dream: `order="confidence"`, `"margin"`, `"entropy"` or `"random-count"`, and `block_length` to write from left
  to right in blocks (semi-autoregressive).

Given tokens are never masked: a canvas may hold a prompt, or any text with holes.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from types import ModuleType
from typing import Any

import jax
import numpy as np

from smcgen.core._types import PyTree, RandomKey
from smcgen.diffusion.backends import backend_of
from smcgen.diffusion.backends.base import Backend, Index, PerRow, Tensor
from smcgen.diffusion.base import Denoiser, Kernel
from smcgen.diffusion.masked._arrays import double, uniforms
from smcgen.diffusion.masked.canvas import block_of, blocks_of, check_alike, checked_canvas
from smcgen.diffusion.masked.orders import Independent, Order, resolve_order
from smcgen.diffusion.masked.parts import MaskedPrediction, Step
from smcgen.diffusion.masked.schedules import masked_share
from smcgen.errors import InvalidArgument
from smcgen.text.sampling import Sampling


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Masked(Kernel):
    """Masked diffusion with a network.

    Attributes:
        denoiser: `fn(ids, time)` to logits (rows, L, V), with or without one for the mask; `time` is the share of
            positions that should be masks.
        canvas: a length L, or token ids (L,) or (problems, L) with `mask_id` where one is to be written.
        mask_id: the mask; it is never written.
        steps: steps of each block; few steps reveal several tokens at once, as if independent.
        schedule: "linear", "cosine", "quadratic", or the share of masks as a function of t / T.
        order: which positions a step reveals: an `Order`, or "random", "random-count", "confidence", "margin" or
            "entropy".
        sampling: the law of a token, of the network's logits.
        block_length: positions of a block, which are finished before the next block begins; None: one block.
        remask: share of the largest possible probability to mask a revealed position again (ReMDM's rescaled
            schedule, Wang et al. 2025, section 4.1): 0 is MDLM. With "random" or another `Independent` only.
        never: tokens that are never written (padding, say).
        conditional: whether the denoiser wants the problem's index of each row.
        decoder: tokens as rewards and people see them: texts.
        backend: default: torch, on the device of its parameters, for a torch module; else JAX.
        prompts: one for each row of the canvas, for rewards that read them.
        aligned: blocks are cut at multiples of `block_length` from the beginning of the canvas (LLaDA2), not counted in
            masks from the first one on.
        ahead: the token that stands for all after the current block where data are guessed; the denoiser then gives
            logits of this block alone, (rows, block_length, V), and no more are kept. With torch, aligned blocks,
            and a canvas whose rows all begin in the same block; None: logits of the whole canvas.
        blocks: how many blocks there are; by itself as many as the canvas needs.

    Raises:
        InvalidArgument: an argument is not allowed.
    """

    denoiser: Denoiser
    canvas: Any
    mask_id: int = field(metadata={"static": True})
    steps: int = field(metadata={"static": True})
    schedule: str | Callable[[np.ndarray], np.ndarray] = field(
        default="linear", metadata={"static": True}
    )
    order: str | Order = field(default="random", metadata={"static": True})
    sampling: Sampling = field(default=Sampling(), metadata={"static": True})
    block_length: int | None = field(default=None, metadata={"static": True})
    remask: float = field(default=0.0, metadata={"static": True})
    never: tuple[int, ...] = field(default=(), metadata={"static": True})
    conditional: bool = field(default=False, metadata={"static": True})
    decoder: Callable[[Any], Any] | None = field(default=None, metadata={"static": True})
    backend: Backend = field(default=None, metadata={"static": True})  # pyright: ignore[reportAssignmentType]
    prompts: tuple[Any, ...] | None = field(default=None, metadata={"static": True})
    aligned: bool = field(default=False, metadata={"static": True})
    ahead: int | None = field(default=None, metadata={"static": True})
    blocks: int = field(default=0, metadata={"static": True})

    def __post_init__(self) -> None:
        settle = lambda name, value: object.__setattr__(self, name, value)
        settle("order", resolve_order(self.order))
        if self.blocks:
            return  # checked before: JAX builds it again from its parts
        settle("canvas", checked_canvas(self.canvas, self.mask_id))
        settle("blocks", blocks_of(self.canvas, self.mask_id, self.block_length, self.aligned))
        settle("never", tuple(int(i) for i in self.never))
        if self.prompts is not None:
            settle("prompts", tuple(self.prompts))
            if len(self.prompts) != (self.num_problems or 1):
                allowed = f"one for each of {self.num_problems or 1} rows of the canvas"
                raise InvalidArgument("prompts", self.prompts, allowed)
        if self.backend is None:
            settle("backend", backend_of(self.denoiser))
        if isinstance(self.steps, bool) or self.steps < 1:
            raise InvalidArgument("steps", self.steps, "an integer >= 1")
        masked_share(self.schedule, self.steps)
        if self.ahead is not None:
            alike = self.aligned and not self.backend.traceable
            check_alike(self.ahead, self.canvas, self.mask_id, self.block_length, alike)
        if not 0 <= self.remask <= 1:
            raise InvalidArgument("remask", self.remask, "a number in [0, 1]")
        if self.remask > 0 and not isinstance(self.order, Independent):
            raise InvalidArgument("remask", self.remask, "0 with an order that counts")

    # ---- the schedule ------------------------------------------------------------------------------

    @property
    def _order(self) -> Order:
        assert not isinstance(self.order, str)
        return self.order

    @property
    def num_problems(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Rows of the canvas; None if it is one row without a problem axis."""
        return None if self.canvas.ndim == 1 else len(self.canvas)

    @property
    def num_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """T: `steps` for each block."""
        return self.blocks * self.steps

    @cached_property
    def _share(self) -> np.ndarray:
        """m_0..m_steps within a block."""
        return masked_share(self.schedule, self.steps)

    @cached_property
    def deterministic(self) -> tuple[bool, ...]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Steps that leave no choice: greedy tokens at positions that are certain."""
        if self.sampling.temperature > 0 or self.remask > 0:
            return (False,) * self.num_steps
        certain = self._share[1:] == 0 if isinstance(self._order, Independent) else None
        if certain is None:
            certain = np.full(self.steps, self._order.sharpness == np.inf)
        return tuple(bool(c) for c in np.tile(certain, self.blocks))

    @property
    def _laws(self) -> ModuleType:
        if self.backend.traceable:
            from smcgen.diffusion.masked import laws_jax as laws
        else:
            from smcgen.diffusion.masked import laws_torch as laws
        return laws

    def _columns(self, t: Any) -> slice:
        """Positions that a prediction on x_t is about."""
        if self.ahead is None or self.block_length is None:
            return slice(None)
        first = int((self.canvas == self.mask_id).argmax(-1).min()) // self.block_length
        start = (first + int(t) // self.steps) * self.block_length
        return slice(start, start + self.block_length)

    def _step(self, t: Any, x: Tensor, prediction: MaskedPrediction) -> Step:
        """What step t may do with x_{t-1}."""
        xp, share = self.backend.xp, self._share
        block, within = (t - 1) // self.steps, (t - 1) % self.steps
        masks, mine = self.masks(x), prediction.block == block
        with double(xp):
            before, after = xp.asarray(share)[within], xp.asarray(share)[within + 1]
            most = xp.minimum(1.0, after / xp.maximum(1 - before, 1e-300))
            again = self.remask * most
            stay = (after - again * (1 - before)) / before
            rate = xp.broadcast_to(xp.clip(1 - stay, 0.0, 1.0), masks.shape)
            left = xp.round(after * mine.sum(-1)).astype(xp.int32)  # masks that remain in the block
            open = masks & mine
            count = xp.maximum(open.sum(-1).astype(xp.int32) - left, 0)
            return Step(open, ~masks & mine, rate, xp.broadcast_to(again, masks.shape), count)

    # ---- the kernel --------------------------------------------------------------------------------

    def draw_prior(self, key: RandomKey, rows: int) -> Tensor:
        canvas = self.backend.tensor(self.canvas.reshape(-1, self.canvas.shape[-1]))
        return self.backend.take(canvas, np.arange(rows) * len(canvas) // rows)

    def predict(self, t: Any, x: Tensor, problem: Index, before: PyTree) -> MaskedPrediction:
        xp = self.backend.xp
        within = xp.asarray(self._share)[t % self.steps]
        time = (self.blocks - t // self.steps - 1 + within) / self.blocks
        extra = (problem,) if self.conditional else ()
        logits = self.denoiser(x, time, *extra)
        self.backend.check(logits)
        expected = tuple(x[:, self._columns(t)].shape)
        if len(logits.shape) != 3 or tuple(logits.shape[:2]) != expected:
            came = f"one that returned shape {tuple(logits.shape)}"
            raise InvalidArgument("denoiser", came, f"logits of shape {(*expected, 'V')}")
        given = (i for i in (self.mask_id, *self.never) if 0 <= i < logits.shape[-1])
        if forbidden := tuple(given):
            logits = self._laws.forbid(logits, forbidden)
        block = block_of(self.canvas, self.mask_id, self.block_length, self.aligned, xp)
        block = block[xp.asarray(problem)] if block.ndim > 1 else xp.broadcast_to(block, x.shape)
        return MaskedPrediction(logits, block)

    def draw(self, key: RandomKey, t: Any, x: Tensor, prediction: MaskedPrediction) -> Tensor:
        return self.draw_by(key, t, x, prediction, self._order, self.sampling)

    def draw_by(
        self, key: RandomKey, t: Any, x: Tensor, prediction: MaskedPrediction, order: Order, sampling: Sampling
    ) -> Tensor:  # fmt: skip
        """x_t by another order and another law of tokens: a proposal."""
        xp, laws, step = self.backend.xp, self._laws, self._step(t, x, prediction)
        part = self._columns(t - 1)
        u = uniforms(key, x.shape[0], (2, x.shape[1]), xp)
        with double(xp):
            of_place, of_token = u[:, 0], u[:, 1]
            of_token, own = of_token[:, part], x[:, part]
        sure = self._confidence(prediction, order, step.open, part)
        revealed = order.draw(of_place, step.open, step.rate, step.count, sure, xp)
        new = laws.draw_tokens(prediction.logits, sampling, of_token, revealed[:, part], own)
        new = laws.placed(x, part, new)
        if self.remask > 0:
            with double(xp):
                again = step.shut & (of_place < step.remask)
            new = laws.put_mask(new, again, self.mask_id)
        return new

    def log_prob(self, t: Any, x: Tensor, prediction: MaskedPrediction, new: Tensor) -> PerRow:
        return self.log_prob_by(t, x, prediction, new, self._order, self.sampling)

    def log_prob_by(
        self, t: Any, x: Tensor, prediction: MaskedPrediction, new: Tensor, order: Order, sampling: Sampling
    ) -> PerRow:  # fmt: skip
        """Log density of x_t under another order and another law of tokens; masking again is as in the base."""
        xp, laws, step = self.backend.xp, self._laws, self._step(t, x, prediction)
        part = self._columns(t - 1)
        masks = self.masks(new)
        revealed = step.open & ~masks
        sure = self._confidence(prediction, order, step.open, part)
        of_places = order.log_prob(revealed, step.open, step.rate, step.count, sure, xp)
        of_tokens = laws.log_prob(prediction.logits, sampling, new[:, part], revealed[:, part])
        changed = laws.differs(x, new) & ~revealed
        with double(xp), np.errstate(divide="ignore"):
            log_p = of_places + of_tokens
            if self.remask > 0:
                each = xp.where(masks, xp.log(step.remask), xp.log1p(-step.remask))
                log_p = log_p + xp.where(step.shut, each, 0.0).sum(-1)
                changed = changed & ~(step.shut & masks)
            log_p = xp.where(changed.any(-1), -xp.inf, log_p)
            return log_p if xp is np else log_p.astype(xp.float32)

    def data(self, t: Any, x: Tensor, prediction: MaskedPrediction) -> Tensor:
        """x_t with the most likely token in place of each mask."""
        masks, part, x = self._guessed(t, x)
        best = self._laws.best_tokens(prediction.logits, masks[:, part], x[:, part])
        return self._laws.placed(x, part, best)

    def draw_data(
        self, key: RandomKey, t: Any, x: Tensor, prediction: MaskedPrediction, k: int
    ) -> Tensor:
        """x_t with each mask drawn by itself: exact one step before the end, and approximate earlier."""
        laws = self._laws
        u = uniforms(key, x.shape[0], (x.shape[1], k), self.backend.xp)
        masks, part, x = self._guessed(t, x)
        own = (u[:, part], masks[:, part], x[:, part])
        drawn = laws.draw_many(prediction.logits, self.sampling, *own)
        return laws.placed(self.backend.take(x, np.repeat(np.arange(len(x)), k)), part, drawn)

    def _guessed(self, t: Any, x: Tensor) -> tuple[Any, slice, Tensor]:
        """Masks, the positions that are predicted on x_t, and x with `ahead` after them."""
        masks, part = self.masks(x), self._columns(t)
        return masks, part, x if self.ahead is None else self._laws.put_mask(x, masks, self.ahead)

    def masks(self, x: Tensor) -> Any:
        """Positions that are masked, as `backend.xp` has them."""
        return self._laws.masked(x, self.mask_id)

    def masked_at(self, x: Tensor, where: Any) -> Tensor:
        """x with masks at `where`."""
        return self._laws.put_mask(x, where, self.mask_id)

    def decode(self, data: Tensor) -> Any:
        return data if self.decoder is None else self.decoder(data)

    def _confidence(
        self, prediction: MaskedPrediction, order: Order, open: Any, part: slice
    ) -> Any:
        if order.sharpness == 0:
            return None
        # greedy tokens are all certain: what tells them apart is the network's own law
        law = self.sampling if self.sampling.temperature > 0 else Sampling()
        sure = self._laws.confidences(prediction.logits, law, order.confidence, open[:, part])
        return self._laws.placed(self.backend.xp.zeros(open.shape), part, sure)
