"""Tree search: what it finds with a perfect value, what visits count, and in how many calls."""

from functools import cache

import numpy as np
import pytest

from smcgen import scaling
from smcgen.scaling.puct import Rules, Visited
from smcgen.scaling.tree import Drawn
from smcgen.text.rewards import FunctionReward
from smcgen.text.texts import Finish
from tests.laws import assert_law
from tests.scaling import exact
from tests.scaling.test_beam import children
from tests.text.toy import EOS, ToyEngine

WIDTH, RUNS = 16, 60


LAW = exact.ENGINE.law(exact.TOKENS)


def own(ids):
    """A different value for each text: of those that end by themselves at the last token the likeliest is the best."""
    last = ids[-1] == EOS and len(ids) == exact.TOKENS
    return (0.9 if last else 0.1) * float(np.exp(LAW[ids] / 4))


@cache
def perfect(ids):
    """The value of the best text that can follow."""
    if ids and (ids[-1] == EOS or len(ids) == exact.TOKENS):
        return own(ids)
    return max(perfect(x) for x in children(ids))


PERFECT = FunctionReward(
    lambda texts: [perfect(tuple(x)) for x in texts], on="ids", probability=True
)
BEST = next(ids for ids in LAW if own(ids) == perfect(()))
# it is found if each of its steps is among those that are drawn
REACHED = float(
    np.prod([1 - (1 - children(BEST[:k])[BEST[: k + 1]]) ** WIDTH for k in range(len(BEST))])
)


def searched(prompts, budget=exact.N, **options):
    strategy = scaling.MCTS(**{"width": WIDTH, "widening": None, **options})
    writing = exact.WRITING
    return strategy.run(exact.ENGINE, ["a"] * prompts, PERFECT, budget, key=5, writing=writing)


def is_best(outcome):
    return outcome.runs[0].population.tokens(outcome.chosen) == list(BEST)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        # just enough simulations to write one text: no step may be wasted
        {"budget": WIDTH, "exploration": 0.0, "backup": "max", "held": 3},
        # enough for the whole tree that is drawn
        {"budget": 128, "exploration": 2.0, "leaves": 6, "held": 1},
        {"budget": 128, "by": "visits", "backup": "max", "exploration": 0.1, "held": 1},
    ],
    ids=["tight", "whole", "visits"],
)
def test_with_a_perfect_value_it_finds_the_best_text_that_can_be_reached(options):
    found = sum(map(is_best, searched(RUNS, **options)))
    assert 0.05 < REACHED < 0.95
    assert_law(np.array([found, RUNS - found]), np.array([REACHED, 1 - REACHED]))


@pytest.mark.slow
def test_with_widening_it_finds_the_best_text_of_all():
    outcomes = searched(3, 400, width=4, widening=1.0, leaves=8, held=1, exploration=3.0)
    assert all(map(is_best, outcomes))


@pytest.mark.slow
def test_all_leaves_of_all_prompts_are_written_in_one_call_a_round():
    calls = []

    class Counted(ToyEngine):
        def open(self, *args):
            session = super().open(*args)
            extend = session.extend
            session.extend = lambda rows, *rest: (calls.append(len(rows)), extend(rows, *rest))[1]
            return session

    engine = Counted(3, max_tokens=exact.TOKENS)
    scaling.MCTS(width=2, leaves=2, widening=None).run(
        engine, ["a"] * 5, PERFECT, 4, writing=exact.WRITING
    )
    assert calls[0] == 5 * 2  # the root of each
    assert 5 * 2 < max(calls) <= 5 * 2 * 2  # two leaves of those that have them
    assert len(calls) <= 4 * exact.TOKENS // 2


@pytest.mark.parametrize("backup", ["mean", "max"])
@pytest.mark.parametrize("widening", [None, 0.5])
@pytest.mark.parametrize("rows", [9, 200])
def test_visits_are_simulations_and_values_are_those_below(backup, widening, rows):
    rng = np.random.default_rng(rows)
    tree = Visited(Rules(3, 1.0, backup, widening), rows)
    for _ in range(60):
        for plan in tree.plan(2):
            depth = len(list(plan.leaf.path()))
            drawn = [
                Drawn(
                    row, (int(rng.integers(5)),), float(rng.random()), depth > 3, rng.random() < 0.9
                )
                for row in plan.rows
            ]
            before = tree.root.visits
            tree.grown(plan, drawn)
            assert tree.root.visits == before + any(d.alive for d in drawn)
    nodes = list(tree.nodes())
    held = [node.row for node in nodes if node.row >= 0]
    assert {row: node.row for row, node in tree.held.items()} == {row: row for row in held}
    assert sorted([*held, *tree._free]) == list(range(rows))  # no row twice, none lost
    assert tree.waiting == sum(v.draws == 0 and not v.ended for v in nodes)
    for node in nodes:
        assert node.pending == 0
        below = node.children.values()
        expansions = node.visits - sum(v.visits for v in below)
        assert expansions >= (node.draws > 0)
        if rows == 200 and widening is None and not node.ended:
            assert expansions == (node.draws > 0)
        if backup == "max" and node.children and rows == 200:
            assert tree.worth(node) == max(map(tree.worth, below))
        if backup == "mean" and node.ended:
            assert tree.worth(node) == pytest.approx(node.value)


@pytest.mark.parametrize("strategy", [scaling.MCTS(width=2), scaling.BestFirst(width=2)])
@pytest.mark.parametrize(
    "budget", [1, scaling.Budget(tokens=30), scaling.Budget(rollouts=4, reward_calls=20)]
)
def test_a_search_ends_with_a_finished_text(strategy, budget):
    """However small the budget, and though the reward likes the beginnings best: one text's needs are kept back."""
    begun = FunctionReward(
        lambda texts: [-float(len(x) + 50 * (x[-1:] == [EOS])) for x in texts], on="ids"
    )
    writing = scaling.Writing(step=1, max_steps=6, max_tokens=6)
    engine = ToyEngine(3, max_tokens=6)
    outcomes = strategy.run(engine, ["a"] * 20, begun, budget, key=3, writing=writing)
    assert all(o.finish[o.chosen] != Finish.RUNNING for o in outcomes)
