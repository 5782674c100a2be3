"""Another order and another law of tokens for masked diffusion, weighted exactly."""

from dataclasses import dataclass, field
from typing import Any

import jax

from smcgen.core._types import PyTree, RandomKey
from smcgen.diffusion.backends.base import Tensor
from smcgen.diffusion.base import Kernel
from smcgen.diffusion.kernels.masked import Masked
from smcgen.diffusion.masked.orders import Order, resolve_order
from smcgen.errors import InvalidArgument
from smcgen.text.sampling import Sampling, covers


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Unmasking:
    """x_t is drawn by `order` and `sampling` in place of the kernel's own; the weight is p / q.

    So a base model that reveals positions at random can be sampled by confidence, or at another temperature, and the
    target stays that of the base model. What p may draw q must be able to draw, which is checked.

    Attributes:
        order: an order of the kernel's kind (both `Independent`, or both `Counted`), or its name; None: the kernel's.
        sampling: None: the kernel's.

    Raises:
        InvalidArgument: in a run, if the kernel is not masked, or could draw what this proposal cannot.
    """

    order: str | Order | None = field(default=None, metadata={"static": True})
    sampling: Sampling | None = field(default=None, metadata={"static": True})

    guided = False

    def __post_init__(self) -> None:
        if self.order is not None:
            object.__setattr__(self, "order", resolve_order(self.order))

    def draw(
        self,
        key: RandomKey,
        t: Any,
        x: Tensor,
        prediction: PyTree,
        gradient: Tensor,
        kernel: Kernel,
    ) -> Tensor:
        kernel, order, sampling = self._of(kernel)
        return kernel.draw_by(key, t, x, prediction, order, sampling)

    def log_ratio(
        self,
        t: Any,
        x: Tensor,
        prediction: PyTree,
        gradient: Tensor,
        new: Tensor,
        kernel: Kernel,
    ) -> Any:
        kernel, order, sampling = self._of(kernel)
        log_q = kernel.log_prob_by(t, x, prediction, new, order, sampling)
        return kernel.log_prob(t, x, prediction, new) - log_q

    def _of(self, kernel: Kernel) -> tuple[Masked, Order, Sampling]:
        if not isinstance(kernel, Masked):
            raise InvalidArgument("kernel", type(kernel).__name__, "Masked, for this proposal")
        base = resolve_order(kernel.order)
        order = base if self.order is None else resolve_order(self.order)
        sampling = self.sampling or kernel.sampling
        if not order.covers(base):
            raise InvalidArgument("order", order, f"one that can draw all that {base} can")
        if not covers(sampling, kernel.sampling):
            allowed = f"a law of every token that {kernel.sampling} allows"
            raise InvalidArgument("sampling", sampling, allowed)
        return kernel, order, sampling
