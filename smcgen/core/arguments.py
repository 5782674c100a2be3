"""Arguments of a run, checked."""

from numbers import Real
from typing import Any, get_args

import numpy as np

from smcgen.core.batches import Batches
from smcgen.core.body import Keep, Settings
from smcgen.core.keys import keys_of as keys_of
from smcgen.core.layout import layout_of
from smcgen.core.resampling.when import resampler
from smcgen.errors import InvalidArgument, UnknownName


def settings_of(
    n: Any,
    resampling: Any,
    ess_threshold: Any,
    keep: Any,
    ancestor_sampling: bool = False,
    devices: Any = None,
    batch_size: Any = None,
) -> Settings:
    """Settings of a run.

    Raises:
        InvalidArgument: an argument is not allowed.
    """
    check_counts(n_particles=n)
    if not isinstance(ess_threshold, Real) or not 0 <= float(ess_threshold) <= 1:
        raise InvalidArgument("ess_threshold", ess_threshold, "a number in [0, 1]")
    if keep not in get_args(Keep):
        raise UnknownName("keep", keep, get_args(Keep))
    schedule = resampler(resampling, float(ess_threshold))
    if batch_size is not None:
        whole = isinstance(batch_size, int | np.integer) and not isinstance(batch_size, bool)
        if not whole or batch_size < 1:
            raise InvalidArgument("batch_size", batch_size, "an integer >= 1, or None")
    layout = layout_of(devices, int(n))
    batches = None
    if batch_size is not None:
        batches = Batches(int(batch_size), max(1, len(layout.devices)))
    return Settings(int(n), schedule, keep, ancestor_sampling, layout, batches)


def check_counts(least: int = 1, optional: bool = False, **counts: Any) -> None:
    """Raise `InvalidArgument` unless each count is an integer of at least `least`, or None where they are optional."""
    for name, value in counts.items():
        if optional and value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise InvalidArgument(name, value, f"{'None or ' * optional}an integer >= {least}")
