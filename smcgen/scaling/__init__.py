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
    from smcgen.scaling.selection import Selection as Selection
    from smcgen.scaling.selection import as_selection as as_selection
    from smcgen.scaling.strategies.adaptive import AdaptiveAllocation as AdaptiveAllocation
    from smcgen.scaling.strategies.adaptive import AdaptiveConsistency as AdaptiveConsistency
    from smcgen.scaling.strategies.beam import DVTS as DVTS
    from smcgen.scaling.strategies.beam import BeamSearch as BeamSearch
    from smcgen.scaling.strategies.beam import LookaheadSearch as LookaheadSearch
    from smcgen.scaling.strategies.best_first import BestFirst as BestFirst
    from smcgen.scaling.strategies.first_finish import FirstFinish as FirstFinish
    from smcgen.scaling.strategies.independent import BestOfN as BestOfN
    from smcgen.scaling.strategies.independent import Majority as Majority
    from smcgen.scaling.strategies.independent import Sample as Sample
    from smcgen.scaling.strategies.independent import WeightedBestOfN as WeightedBestOfN
    from smcgen.scaling.strategies.mcts import MCTS as MCTS
    from smcgen.scaling.strategies.particle_filter import (
        EntropicParticleFilter as EntropicParticleFilter,
    )
    from smcgen.scaling.strategies.particle_filter import ParticleFilter as ParticleFilter
    from smcgen.scaling.strategies.particle_filter import (
        TemperedParticleFilter as TemperedParticleFilter,
    )
    from smcgen.scaling.strategies.particle_gibbs import PGAS as PGAS
    from smcgen.scaling.strategies.particle_gibbs import ParticleGibbs as ParticleGibbs
    from smcgen.scaling.strategies.puri import PuriParticleFilter as PuriParticleFilter
    from smcgen.scaling.strategies.redundant import PruneRedundant as PruneRedundant
    from smcgen.scaling.strategies.tempering import ParallelTempering as ParallelTempering
    from smcgen.scaling.strategies.votes import RPC as RPC
    from smcgen.scaling.strategies.votes import BestOfMajority as BestOfMajority
    from smcgen.scaling.strategies.votes import MultiTemperature as MultiTemperature
    from smcgen.scaling.writing import Writing as Writing

_NAMES = {
    "AdaptiveAllocation": "smcgen.scaling.strategies.adaptive",
    "AdaptiveConsistency": "smcgen.scaling.strategies.adaptive",
    "ParticleGibbs": "smcgen.scaling.strategies.particle_gibbs",
    "PGAS": "smcgen.scaling.strategies.particle_gibbs",
    "BeamSearch": "smcgen.scaling.strategies.beam",
    "BestFirst": "smcgen.scaling.strategies.best_first",
    "BestOfMajority": "smcgen.scaling.strategies.votes",
    "BestOfN": "smcgen.scaling.strategies.independent",
    "Budget": "smcgen.scaling.budget",
    "DVTS": "smcgen.scaling.strategies.beam",
    "EntropicParticleFilter": "smcgen.scaling.strategies.particle_filter",
    "FirstFinish": "smcgen.scaling.strategies.first_finish",
    "LookaheadSearch": "smcgen.scaling.strategies.beam",
    "Majority": "smcgen.scaling.strategies.independent",
    "MCTS": "smcgen.scaling.strategies.mcts",
    "MultiTemperature": "smcgen.scaling.strategies.votes",
    "Outcome": "smcgen.scaling.outcome",
    "ParticleFilter": "smcgen.scaling.strategies.particle_filter",
    "ParallelTempering": "smcgen.scaling.strategies.tempering",
    "PruneRedundant": "smcgen.scaling.strategies.redundant",
    "PuriParticleFilter": "smcgen.scaling.strategies.puri",
    "RPC": "smcgen.scaling.strategies.votes",
    "STRATEGIES": "smcgen.scaling.registry",
    "Sample": "smcgen.scaling.strategies.independent",
    "Selection": "smcgen.scaling.selection",
    "Strategy": "smcgen.scaling.base",
    "TemperedParticleFilter": "smcgen.scaling.strategies.particle_filter",
    "WeightedBestOfN": "smcgen.scaling.strategies.independent",
    "Writing": "smcgen.scaling.writing",
    "as_selection": "smcgen.scaling.selection",
    "as_strategy": "smcgen.scaling.registry",
}
__all__ = [
    "AdaptiveAllocation",
    "AdaptiveConsistency",
    "ParticleGibbs",
    "PGAS",
    "BeamSearch",
    "BestFirst",
    "BestOfMajority",
    "BestOfN",
    "Budget",
    "DVTS",
    "EntropicParticleFilter",
    "FirstFinish",
    "LookaheadSearch",
    "Majority",
    "MCTS",
    "MultiTemperature",
    "Outcome",
    "ParticleFilter",
    "ParallelTempering",
    "PruneRedundant",
    "PuriParticleFilter",
    "RPC",
    "STRATEGIES",
    "Sample",
    "Selection",
    "Strategy",
    "TemperedParticleFilter",
    "WeightedBestOfN",
    "Writing",
    "as_selection",
    "as_strategy",
]
__getattr__, __dir__ = lazy(__name__, _NAMES)
