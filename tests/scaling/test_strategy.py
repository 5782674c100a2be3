"""What every strategy has in common: the call, the outcome, seeds, errors."""

import asyncio

import jax
import numpy as np
import pytest

from smcgen import scaling
from smcgen.core.cost import Cost
from smcgen.core.status import Status
from smcgen.errors import InvalidArgument, UnknownName
from smcgen.scaling.selection import BestOfMajority
from smcgen.text.rewards import FunctionReward
from tests.scaling import exact


@pytest.mark.parametrize("name", exact.NAMES)
def test_outcomes_depend_on_their_own_keys_alone(name):
    """Equal seeds, equal results: alone, in another batch, in another order."""
    keys = jax.random.split(jax.random.key(1), 6)
    options = {"writing": exact.WRITING}
    run = lambda prompts, key: scaling.as_strategy(name).run(
        exact.ENGINE, prompts, exact.REWARD, exact.N, key=key, **options
    )
    whole = run(["a"] * 6, keys)
    turned = run(["a"] * 6, keys[::-1])[::-1]
    alone = run("a", keys[2])
    pairs = zip([*whole, whole[2]], [*turned, alone], strict=True)
    if scaling.as_strategy(
        name
    ).pooled:  # then on the prompts beside it too, though not on their order
        pairs = zip(whole, turned, strict=True)
    for one, other in pairs:
        assert one.texts == other.texts
        assert one.ranking.tolist() == other.ranking.tolist()
        assert one.cost.tokens_generated == other.cost.tokens_generated
        np.testing.assert_allclose(one.weights, other.weights, rtol=1e-5)


@pytest.mark.parametrize("name", exact.NAMES)
def test_an_outcome(name):
    outcome = exact.run(scaling.as_strategy(name), prompts=2)[0]
    assert outcome.strategy == name
    assert len(outcome.texts) == len(outcome.weights) == len(outcome.scores)
    assert outcome.weights.sum() == pytest.approx(1.0)
    assert sorted(outcome.ranking) == list(range(len(outcome.texts)))
    assert outcome.answer in {None, *outcome.answers}
    assert outcome.top(2)[:1] == [outcome.answer][: len(outcome.top(2))] or outcome.answer is None
    assert outcome.cost.tokens_generated > 0
    for part in (name, "answer=", "texts", "status=", "Cost("):
        assert part in repr(outcome)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["best-of-n", "beam-search", "a-star", "mcts", "particle-filter"])
def test_where_no_text_is_possible_none_has_weight(name):
    nothing = FunctionReward(lambda texts: [-np.inf] * len(texts))
    outcome = scaling.as_strategy(name).run(
        exact.ENGINE, "a", nothing, exact.N, writing=exact.WRITING
    )
    assert outcome.status is Status.ALL_WEIGHTS_ZERO
    assert not outcome.weights.any()
    assert not outcome.answers


def test_costs_of_a_batch_add_up():
    outcomes = exact.run(scaling.BestOfN(), prompts=7)
    total = sum((o.cost for o in outcomes), Cost())
    assert total.reward_calls <= 7 * exact.N
    assert total.tokens_generated == sum(o.candidates.lengths.sum() for o in outcomes)


def test_in_a_running_event_loop():
    async def cell():
        return await scaling.Majority().arun(exact.ENGINE, "a", budget=3, writing=exact.WRITING)

    assert len(asyncio.run(cell()).texts) == 3


def test_a_callback_that_stops_leaves_what_there_is():
    class Enough(Exception):
        pass

    def stop(progress):
        if progress.t == 1:
            raise Enough

    with pytest.raises(Enough) as caught:
        scaling.ParticleFilter().run(
            exact.ENGINE, ["a"] * 2, exact.REWARD, 3, writing=exact.WRITING, callback=stop
        )
    outcomes = caught.value.result
    assert [len(o.texts) for o in outcomes] == [3, 3]


def test_errors_name_what_is_missing():
    with pytest.raises(UnknownName, match=r"strategy='nest-of-n'.*'best-of-n'"):
        scaling.as_strategy("nest-of-n")
    with pytest.raises(InvalidArgument, match=r"reward=None.*best-of-n"):
        scaling.BestOfN().run(exact.ENGINE, "a", writing=exact.WRITING)
    with pytest.raises(InvalidArgument, match=r"writing.answer=None.*majority"):
        scaling.Majority().run(exact.ENGINE, "a")
    with pytest.raises(InvalidArgument, match="budget=0"):
        scaling.Sample().run(exact.ENGINE, "a", budget=0)
    with pytest.raises(UnknownName, match="selection='worst'"):
        scaling.Sample(selection="worst").run(exact.ENGINE, "a", writing=exact.WRITING)


def test_every_strategy_is_a_public_name():
    assert {kind.__name__ for kind in scaling.STRATEGIES.values()} <= set(scaling.__all__)


def test_another_rule_on_the_same_texts():
    outcome = exact.run(scaling.BestOfN(), prompts=2)[0]
    weighted = exact.run(scaling.WeightedBestOfN(), prompts=2)[0]
    again = outcome.by("weighted")
    assert again.texts == weighted.texts
    assert again.ranking.tolist() == weighted.ranking.tolist()
    assert outcome.by("majority").by("best").ranking.tolist() == outcome.ranking.tolist()
    silent = scaling.Writing(step=1, max_tokens=exact.TOKENS)
    plain = scaling.Sample().run(exact.ENGINE, "a", budget=2, writing=silent)
    with pytest.raises(InvalidArgument, match="selection='majority'"):
        plain.by("majority")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: scaling.ParticleFilter(lookahead=-1), "lookahead=-1"),
        (lambda: scaling.TemperedParticleFilter(warmup=-1), "warmup=-1"),
        (lambda: scaling.PGAS(sweeps=0), "sweeps=0"),
        (lambda: scaling.ParticleGibbs(discard=4), "discard=4"),
        (lambda: scaling.PuriParticleFilter(strength=float("nan")), "strength=nan"),
        (lambda: scaling.BeamSearch(width=0), "width=0"),
        (lambda: scaling.LookaheadSearch(lookahead=-1), "lookahead=-1"),
        (lambda: scaling.BestFirst(width=0), "width=0"),
        (lambda: scaling.FirstFinish(k=0), "k=0"),
        (lambda: BestOfMajority(share=1.5), "share=1.5"),
        (lambda: scaling.AdaptiveConsistency(strategy="multi-temperature"), "independent texts"),
    ],
)
def test_options_that_cannot_be_are_refused_when_they_are_given(make, named):
    with pytest.raises(InvalidArgument, match=named):
        make()
