"""How many positions are masked when: `m_t`, from 1 at t = 0 to 0 at t = T."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float64

from smcgen.errors import InvalidArgument, UnknownName

SCHEDULES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda u: 1 - u,
    "cosine": lambda u: np.cos(np.pi / 2 * u),
    "quadratic": lambda u: 1 - u**2,
}
"""The share that is masked, of u = t / T: "linear" in MDLM and LLaDA, "cosine" in MaskGIT (few revealed at first)."""


def masked_share(
    schedule: str | Callable[[np.ndarray], np.ndarray], steps: int
) -> Float64[np.ndarray, " times"]:
    """m_0..m_T.

    Raises:
        InvalidArgument: a function that does not fall from 1 to 0.
    """
    if isinstance(schedule, str) and schedule not in SCHEDULES:
        raise UnknownName("schedule", schedule, SCHEDULES)
    fn = SCHEDULES[schedule] if isinstance(schedule, str) else schedule
    share = np.asarray(fn(np.linspace(0, 1, steps + 1)), np.float64)
    fits = share.shape == (steps + 1,) and np.allclose(share[[0, -1]], [1, 0], atol=1e-6)
    if not fits or np.any(np.diff(share) > 0):
        raise InvalidArgument("schedule", schedule, "a function that falls from 1 at 0 to 0 at 1")
    share[0], share[-1] = 1.0, 0.0
    return share
