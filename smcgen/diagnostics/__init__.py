"""Looking at a run: figures and export. Needs the extra `plot`; nothing is imported before use."""

from typing import TYPE_CHECKING

from smcgen._lazy import lazy

if TYPE_CHECKING:
    from smcgen.diagnostics.arviz import to_inference_data as to_inference_data
    from smcgen.diagnostics.plots import plot_result as plot_result

_NAMES = {
    "plot_result": "smcgen.diagnostics.plots",
    "to_inference_data": "smcgen.diagnostics.arviz",
}
__all__ = sorted(_NAMES)
__getattr__, __dir__ = lazy(__name__, _NAMES)
