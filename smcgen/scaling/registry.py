"""Strategies by name."""

from smcgen.errors import InvalidArgument, UnknownName
from smcgen.scaling.base import Strategy
from smcgen.scaling.strategies.adaptive import AdaptiveAllocation, AdaptiveConsistency
from smcgen.scaling.strategies.beam import DVTS, BeamSearch, LookaheadSearch
from smcgen.scaling.strategies.best_first import BestFirst
from smcgen.scaling.strategies.first_finish import FirstFinish
from smcgen.scaling.strategies.independent import BestOfN, Majority, Sample, WeightedBestOfN
from smcgen.scaling.strategies.mcts import MCTS
from smcgen.scaling.strategies.particle_filter import (
    EntropicParticleFilter,
    ParticleFilter,
    TemperedParticleFilter,
)
from smcgen.scaling.strategies.particle_gibbs import PGAS, ParticleGibbs
from smcgen.scaling.strategies.puri import PuriParticleFilter
from smcgen.scaling.strategies.redundant import PruneRedundant
from smcgen.scaling.strategies.tempering import ParallelTempering
from smcgen.scaling.strategies.votes import RPC, BestOfMajority, MultiTemperature

_ALL: tuple[type[Strategy], ...] = (
    *(Sample, BestOfN, WeightedBestOfN, Majority),
    *(BestOfMajority, RPC, FirstFinish, MultiTemperature),
    *(AdaptiveConsistency, AdaptiveAllocation, PruneRedundant),
    *(BeamSearch, DVTS, LookaheadSearch, BestFirst, MCTS),
    *(ParticleFilter, TemperedParticleFilter, EntropicParticleFilter, PuriParticleFilter),
    *(ParticleGibbs, PGAS, ParallelTempering),
)
STRATEGIES: dict[str, type[Strategy]] = {strategy.name: strategy for strategy in _ALL}


def as_strategy(strategy: str | Strategy) -> Strategy:
    """A strategy by its name, with its own options, or the strategy itself.

    Raises:
        UnknownName: there is none of that name; the message lists what there is.
    """
    if isinstance(strategy, str):
        if strategy not in STRATEGIES:
            raise UnknownName("strategy", strategy, STRATEGIES)
        return STRATEGIES[strategy]()
    if not isinstance(strategy, Strategy):
        raise InvalidArgument("strategy", strategy, "a strategy or the name of one")
    return strategy
