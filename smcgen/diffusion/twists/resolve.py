"""Twists by name."""

from typing import Any

from smcgen.core.arguments import check_counts
from smcgen.diffusion.base import Twist
from smcgen.diffusion.twists.potentials import Difference, Immediate, Max, Sum
from smcgen.diffusion.values.draws import ManyDraws
from smcgen.errors import InvalidArgument, UnknownName

TWISTS = {"difference": Difference, "immediate": Immediate, "max": Max, "sum": Sum}


def as_twist(twist: Any, draws: int | None = None) -> Twist | None:
    """A twist as it is, or one by its name; of many draws if `draws` says how many.

    Raises:
        InvalidArgument: no such twist; `draws` with a twist that has a value of its own.
    """
    if isinstance(twist, str):
        if twist == "none":
            twist = None
        elif twist not in TWISTS:
            raise UnknownName("twist", twist, [*TWISTS, "none"])
        else:
            if draws is None:
                return TWISTS[twist]()
            check_counts(draws=draws)
            return TWISTS[twist](ManyDraws(draws))
    if draws is not None:
        allowed = "None, unless `twist` is one of " + ", ".join(map(repr, TWISTS))
        raise InvalidArgument("draws", draws, allowed)
    return twist
