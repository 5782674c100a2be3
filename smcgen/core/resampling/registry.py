"""Schemes by name, and what each can do."""

from smcgen.core.resampling.base import (
    Conditional,
    ConditionalLaw,
    Resampling,
    Scheme,
    Transform,
    Weighted,
)
from smcgen.core.resampling.killing import Killing
from smcgen.core.resampling.multinomial import Multinomial
from smcgen.core.resampling.residual import Residual
from smcgen.core.resampling.ssp import SSP
from smcgen.core.resampling.stop_gradient import StopGradient
from smcgen.core.resampling.stratified import Stratified
from smcgen.core.resampling.systematic import Systematic
from smcgen.core.resampling.transport import Transport
from smcgen.errors import InvalidArgument, UnknownName

SCHEMES: dict[str, Resampling] = {
    "multinomial": Multinomial(),
    "stratified": Stratified(),
    "systematic": Systematic(),
    "residual": Residual(),
    "ssp": SSP(),
    "killing": Killing(),
}


# for derivatives of a whole run; they do more than draw ancestors
DIFFERENTIABLE: dict[str, Scheme] = {
    "stop_gradient": StopGradient(SCHEMES["systematic"]),
    "transport": Transport(),
}


def resolve(resampling: str | Scheme) -> Scheme:
    """A scheme by its name, or the scheme itself."""
    if isinstance(resampling, str):
        known = SCHEMES | DIFFERENTIABLE
        if resampling not in known:
            raise UnknownName("resampling", resampling, known)
        return known[resampling]
    if not callable(resampling) and not isinstance(resampling, Weighted | Transform):
        raise InvalidArgument("resampling", resampling, "a scheme or one of its names")
    return resampling


def conditional(resampling: str | Scheme) -> ConditionalLaw:
    """A scheme's law given the ancestor of slot 0: `(key, log_weights, pinned) -> ancestors`.

    Raises:
        InvalidArgument: the scheme has none.
    """
    scheme = resolve(resampling)
    if not isinstance(scheme, Conditional):
        have = ", ".join(repr(k) for k, v in SCHEMES.items() if isinstance(v, Conditional))
        raise InvalidArgument("resampling", resampling, f"a scheme with a conditional law: {have}")
    return scheme.conditional
