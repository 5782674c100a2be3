"""Resampling schemes; see `smcgen.core.resampling.base` for which to use when."""

from smcgen.core.resampling.base import Resampling as Resampling
from smcgen.core.resampling.killing import Killing as Killing
from smcgen.core.resampling.multinomial import Multinomial as Multinomial
from smcgen.core.resampling.residual import Residual as Residual
from smcgen.core.resampling.ssp import SSP as SSP
from smcgen.core.resampling.stratified import Stratified as Stratified
from smcgen.core.resampling.systematic import Systematic as Systematic
from smcgen.errors import InvalidArgument, UnknownName

__all__ = [
    "SCHEMES",
    "SSP",
    "Killing",
    "Multinomial",
    "Resampling",
    "Residual",
    "Stratified",
    "Systematic",
    "resolve",
]

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
