"""Inference-time scaling: every strategy on one engine, one reward and one budget.

    outcome = scaling.BestOfN().run(engine, prompt, reward, budget=16)

* strategies by name: `STRATEGIES`, `as_strategy`; to write one's own: `Strategy`
* what they share: `Writing` (steps, sampling, answers), `Budget` (hard limits per prompt)
* what comes back: `Outcome`; which of its texts is chosen: `smcgen.scaling.selection`
"""

from typing import TYPE_CHECKING

from smcgen._lazy import lazy

if TYPE_CHECKING:
    from smcgen.scaling.base import Strategy as Strategy
    from smcgen.scaling.budget import Budget as Budget
    from smcgen.scaling.outcome import Outcome as Outcome
    from smcgen.scaling.registry import STRATEGIES as STRATEGIES
    from smcgen.scaling.registry import as_strategy as as_strategy
    from smcgen.scaling.selection import SELECTIONS as SELECTIONS
    from smcgen.scaling.selection import Selection as Selection
    from smcgen.scaling.strategies.independent import BestOfN as BestOfN
    from smcgen.scaling.strategies.independent import Majority as Majority
    from smcgen.scaling.strategies.independent import Sample as Sample
    from smcgen.scaling.strategies.independent import WeightedBestOfN as WeightedBestOfN
    from smcgen.scaling.strategies.particle_filter import ParticleFilter as ParticleFilter
    from smcgen.scaling.strategies.puri import PuriParticleFilter as PuriParticleFilter
    from smcgen.scaling.writing import Writing as Writing

_INDEPENDENT = "smcgen.scaling.strategies.independent"
_NAMES = {
    "BestOfN": _INDEPENDENT,
    "Budget": "smcgen.scaling.budget",
    "Majority": _INDEPENDENT,
    "Outcome": "smcgen.scaling.outcome",
    "ParticleFilter": "smcgen.scaling.strategies.particle_filter",
    "PuriParticleFilter": "smcgen.scaling.strategies.puri",
    "SELECTIONS": "smcgen.scaling.selection",
    "STRATEGIES": "smcgen.scaling.registry",
    "Sample": _INDEPENDENT,
    "Selection": "smcgen.scaling.selection",
    "Strategy": "smcgen.scaling.base",
    "WeightedBestOfN": _INDEPENDENT,
    "Writing": "smcgen.scaling.writing",
    "as_strategy": "smcgen.scaling.registry",
}
__all__ = [
    "SELECTIONS",
    "STRATEGIES",
    "BestOfN",
    "Budget",
    "Majority",
    "Outcome",
    "ParticleFilter",
    "PuriParticleFilter",
    "Sample",
    "Selection",
    "Strategy",
    "WeightedBestOfN",
    "Writing",
    "as_strategy",
]
__getattr__, __dir__ = lazy(__name__, _NAMES)
