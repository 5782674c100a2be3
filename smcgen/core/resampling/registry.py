"""Schemes by name, and what each can do."""

from smcgen.core.resampling.base import Conditional, ConditionalLaw, Resampling
from smcgen.core.resampling.killing import Killing
from smcgen.core.resampling.multinomial import Multinomial
from smcgen.core.resampling.residual import Residual
from smcgen.core.resampling.ssp import SSP
from smcgen.core.resampling.stratified import Stratified
from smcgen.core.resampling.systematic import Systematic
from smcgen.errors import InvalidArgument, UnknownName

SCHEMES: dict[str, Resampling] = {
    "multinomial": Multinomial(),
    "stratified": Stratified(),
    "systematic": Systematic(),
    "residual": Residual(),
    "ssp": SSP(),
    "killing": Killing(),
}


def resolve(resampling: str | Resampling) -> Resampling:
    """A scheme by its name, or the scheme itself."""
    if isinstance(resampling, str):
        if resampling not in SCHEMES:
            raise UnknownName("resampling", resampling, SCHEMES)
        return SCHEMES[resampling]
    if not callable(resampling):
        raise InvalidArgument("resampling", resampling, "a scheme or one of its names")
    return resampling


def conditional(resampling: str | Resampling) -> ConditionalLaw:
    """A scheme's law given the ancestor of slot 0: `(key, log_weights, pinned) -> ancestors`.

    Raises:
        InvalidArgument: the scheme has none.
    """
    scheme = resolve(resampling)
    if not isinstance(scheme, Conditional):
        have = ", ".join(repr(k) for k, v in SCHEMES.items() if isinstance(v, Conditional))
        raise InvalidArgument("resampling", resampling, f"a scheme with a conditional law: {have}")
    return scheme.conditional
