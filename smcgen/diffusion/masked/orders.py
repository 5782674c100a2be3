"""Which masked positions a step reveals: laws of subsets with a density, so that they can be proposals.

`Independent` decides for each position alone (MDLM), `Counted` reveals a fixed number (LLaDA, Dream, MaskGIT). Both can
prefer positions where the network is confident: `sharpness` 0 is a random order, larger is more by confidence, and
`Counted(inf)` takes the most confident ones, as published samplers do. Confidence is of the law of the token, not of
a token that was drawn; this is what leaves a density.
"""

from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

import numpy as np

from smcgen.diffusion.masked._arrays import double, scan
from smcgen.errors import InvalidArgument, UnknownName

Confidence = Literal["probability", "margin", "entropy"]
"""`log max p`, `log` of the ratio of the two largest, or minus the entropy; nats."""


class Order(Protocol):
    """A law of the subset of `open` positions that are revealed; arrays are (rows, L), NumPy or JAX (`xp`).

    Attributes:
        sharpness: how much confident positions are preferred, per nat of confidence.
        confidence: the measure; asked for only if sharpness is not 0.
    """

    @property
    def sharpness(self) -> float: ...

    @property
    def confidence(self) -> Confidence: ...

    def draw(
        self, uniforms: Any, open: Any, rate: Any, count: Any, confidence: Any, xp: Any
    ) -> Any:
        """The positions that are revealed.

        Args:
            uniforms: one a position.
            open: positions that may be revealed.
            rate: the step's probability to reveal a position, shape (rows, L).
            count: the step's number of positions to reveal, shape (rows,).
            confidence: nats; None if sharpness is 0.
            xp: `numpy` or `jax.numpy`.
        """
        ...

    def log_prob(
        self, revealed: Any, open: Any, rate: Any, count: Any, confidence: Any, xp: Any
    ) -> Any:
        """log probability of exactly this subset, shape (rows,); revealed positions are open ones."""
        ...

    def covers(self, base: "Order") -> bool:
        """Whether every subset that `base` may draw can be drawn from this law."""
        ...


@dataclass(frozen=True)
class Independent:
    """Each open position is revealed with the schedule's probability, whatever the others do (Sahoo et al. 2024, MDLM).

    With `sharpness` k the odds of position l are multiplied by `exp(k (c_l - c))`, c the mean confidence of the row's
    open positions; a probability of 0 or 1 stays what it is.
    """

    sharpness: float = 0.0
    confidence: Confidence = "probability"

    def __post_init__(self) -> None:
        _check(self, finite=True)

    def _rates(self, open: Any, rate: Any, confidence: Any, xp: Any) -> Any:
        if self.sharpness == 0:
            return xp.where(open, rate, 0.0)
        number = xp.maximum(open.sum(-1, keepdims=True), 1)
        mean = xp.where(open, confidence, 0.0).sum(-1, keepdims=True) / number
        inside = xp.clip(rate, 1e-12, 1 - 1e-12)
        log_odds = xp.log(inside) - xp.log1p(-inside) + self.sharpness * (confidence - mean)
        tilted = xp.where((rate > 0) & (rate < 1), xp.exp(-xp.logaddexp(0.0, -log_odds)), rate)
        return xp.where(open, tilted, 0.0)

    def draw(
        self, uniforms: Any, open: Any, rate: Any, count: Any, confidence: Any, xp: Any
    ) -> Any:
        with double(xp):
            return uniforms < self._rates(open, rate, confidence, xp)

    def log_prob(
        self, revealed: Any, open: Any, rate: Any, count: Any, confidence: Any, xp: Any
    ) -> Any:
        with double(xp), np.errstate(divide="ignore"):
            rates = self._rates(open, rate, confidence, xp)
            each = xp.where(revealed, xp.log(rates), xp.log1p(-rates))
            return xp.where(open, each, 0.0).sum(-1)

    def covers(self, base: "Order") -> bool:
        return isinstance(base, Independent)


@dataclass(frozen=True)
class Counted:
    """A given number k of open positions, the subset S with probability proportional to `exp(sharpness sum_S c_l)`.

    That is conditional Poisson sampling (Chen, Dempster and Liu 1994), drawn exactly in O(L k) by the elementary
    symmetric polynomials e_k of the weights `w_l = exp(sharpness c_l)`: `P(S) = prod_S w_l / e_k(w)`. Sharpness 0 is a
    uniformly random subset, infinity the k most confident positions (LLaDA's low-confidence remasking, Nie et al.
    2025).
    """

    sharpness: float = 0.0
    confidence: Confidence = "probability"

    def __post_init__(self) -> None:
        _check(self, finite=False)

    def _log_weights(self, open: Any, confidence: Any, xp: Any) -> Any:
        free = xp.zeros(open.shape) if self.sharpness == 0 else self.sharpness * confidence
        return xp.where(open, free, -xp.inf)

    def _top(self, open: Any, count: Any, confidence: Any, xp: Any) -> Any:
        ranked = xp.argsort(xp.where(open, -confidence, xp.inf), axis=-1, stable=True)
        rank = xp.argsort(ranked, axis=-1, stable=True)
        return open & (rank < count[:, None])

    def draw(
        self, uniforms: Any, open: Any, rate: Any, count: Any, confidence: Any, xp: Any
    ) -> Any:
        if self.sharpness == np.inf:
            return self._top(open, count, confidence, xp)
        with double(xp), np.errstate(invalid="ignore"):
            log_w = self._log_weights(open, confidence, xp)
            after = _symmetric(log_w, xp)
            rows = xp.arange(len(open))

            def visit(left: Any, at: Any) -> Any:
                """Take this position or not; `left` are still to be taken from here on."""
                u, w, here, rest = at
                whole, taken = here[rows, left], w + rest[rows, xp.maximum(left - 1, 0)]
                take = (left > 0) & (w > -xp.inf) & (u < xp.exp(taken - whole))
                return left - take, take

            over = (uniforms.T, log_w.T, after[:-1], after[1:])
            _, taken = scan(visit, count.astype(xp.int32), over, xp)
            return taken.T

    def log_prob(
        self, revealed: Any, open: Any, rate: Any, count: Any, confidence: Any, xp: Any
    ) -> Any:
        if self.sharpness == np.inf:
            same = (revealed == self._top(open, count, confidence, xp)).all(-1)
            return xp.where(same, 0.0, -xp.inf)
        with double(xp):
            log_w = self._log_weights(open, confidence, xp)
            total = _symmetric(log_w, xp)[0][xp.arange(len(open)), count]
            log_p = xp.where(revealed, log_w, 0.0).sum(-1) - total
            return xp.where(revealed.sum(-1) == count, log_p, -xp.inf)

    def covers(self, base: "Order") -> bool:
        return isinstance(base, Counted) and (self.sharpness < np.inf or self == base)


def _symmetric(log_w: Any, xp: Any) -> Any:
    """`log e_r(w_l, w_{l+1}, ..., w_L)` at [l, row, r], l = 0..L: which sums of products remain."""
    rows, length = log_w.shape
    last = xp.concatenate([xp.zeros((rows, 1)), xp.full((rows, length), -xp.inf)], axis=1)

    def before(after: Any, at: Any) -> tuple[Any, Any]:
        taken = at[0][:, None] + after[:, :-1]
        here = xp.concatenate([after[:, :1], xp.logaddexp(after[:, 1:], taken)], axis=1)
        return here, here

    _, backwards = scan(before, last, (log_w.T[::-1],), xp)
    return xp.concatenate([backwards[::-1], last[None]])


def _check(order: Any, finite: bool) -> None:
    if not order.sharpness >= 0 or (finite and order.sharpness == np.inf):
        allowed = "a finite number >= 0" if finite else "a number >= 0"
        raise InvalidArgument("sharpness", order.sharpness, allowed)
    if order.confidence not in get_args(Confidence):
        raise UnknownName("confidence", order.confidence, get_args(Confidence))


ORDERS: dict[str, Order] = {
    "random": Independent(),
    "random-count": Counted(),
    "confidence": Counted(np.inf),
    "margin": Counted(np.inf, "margin"),
    "entropy": Counted(np.inf, "entropy"),
}
"""Orders by name: "random" is MDLM's; "random-count" and "confidence" are LLaDA's, "margin" and "entropy" Dream's."""


def resolve_order(of: str | Order) -> Order:
    """An order by its name, or as it is."""
    if not isinstance(of, str):
        return of
    if of not in ORDERS:
        raise UnknownName("order", of, ORDERS)
    return ORDERS[of]
