"""Best-first search: what it finds, when it ends, and what it takes for promising."""

import itertools
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from smcgen import scaling
from smcgen.scaling.frontier import Frontier
from smcgen.scaling.tree import Drawn
from smcgen.text.potentials.tilt import Tilt
from tests.laws import assert_law
from tests.scaling import exact
from tests.scaling.test_mcts import PERFECT, REACHED, RUNS, WIDTH, is_best


def searched(prompts, budget, **options):
    strategy = scaling.BestFirst(**options)
    return strategy.run(
        exact.ENGINE, ["a"] * prompts, PERFECT, budget, key=5, writing=exact.WRITING
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"budget": WIDTH, "held": 3},  # just enough draws to write one text: none may be wasted
        {"budget": 128, "held": 1, "leaves": 6, "anytime": False},
    ],
    ids=["tight", "whole"],
)
def test_with_a_perfect_value_it_finds_the_best_text_that_can_be_reached(options):
    found = sum(map(is_best, searched(RUNS, width=WIDTH, **options)))
    assert_law(np.array([found, RUNS - found]), np.array([REACHED, 1 - REACHED]))


@pytest.mark.slow
def test_what_is_left_finds_the_best_text_of_all():
    assert all(map(is_best, searched(3, 400, leaves=8, held=1)))


def steps_behind(path, width, seed):
    """The steps that are drawn behind a text of some tree, whose values fall along each text."""
    rng = np.random.default_rng([seed, *path])
    for _ in range(width):
        token = int(rng.integers(4))
        own = np.random.default_rng([seed, 9, *path, token])
        fall = float(np.log(own.uniform(0.3, 1.0)))
        yield (token,), fall, len(path) + 1 >= 2 + int(own.integers(4))


def expanded(tree, seed, width):
    """A tree searched to its end; nodes by path."""
    paths = {tree.root: ()}
    expansions = 0
    while not tree.settled:
        for plan in tree.plan(1):
            leaf, drawn = plan.leaf, []
            below = 0.0 if leaf is tree.root else leaf.value
            for row, (tokens, fall, ended) in zip(
                plan.rows, steps_behind(paths[leaf], width, seed), strict=True
            ):
                drawn.append(Drawn(row, tokens, below + fall, ended, True))
            tree.grown(plan, drawn)
            expansions += 1
            for tokens, child in leaf.children.items():
                paths[child] = (*paths[leaf], *tokens)
    return expansions


def best_of_all(seed, width, path=(), value=0.0):
    """The best finished text of the drawn tree, and how many there are to expand, by brute force."""
    found, count = -np.inf, 1
    children = {t: (v, ended) for t, v, ended in steps_behind(path, width, seed)}
    for tokens, (fall, ended) in children.items():
        if ended:
            found = max(found, value + fall)
        else:
            best, more = best_of_all(seed, width, (*path, *tokens), value + fall)
            found, count = max(found, best), count + more
    return found, count


def test_it_ends_with_the_best_text_of_the_drawn_tree_before_it_has_seen_all():
    share = []
    for seed in range(30):
        tree = Frontier(3, 500, once=True, top=0.0)
        expansions = expanded(tree, seed, 3)
        value, count = best_of_all(seed, 3)
        assert tree.best is not None
        assert tree.best.value == pytest.approx(value)
        share.append(expansions / count)
    assert np.mean(share) < 0.7


def test_what_is_promising():
    tree = Frontier(3, 20, once=False, top=0.0)

    def draw(leaf, *steps):
        (plan,) = tree.plan(1)
        assert plan.leaf is leaf
        made = zip(plan.rows, steps, strict=True)
        tree.grown(
            plan, [Drawn(r, (t,), float(np.log(v)), ended, True) for r, (t, v, ended) in made]
        )

    root = tree.root
    draw(root, (0, 0.5, False), (1, 0.8, False), (0, 0.5, False))
    low, high = root.children[0,], root.children[1,]
    assert np.exp(tree.rank(root)) == pytest.approx((1.0 + 0.8) / 4)  # only one step came once
    usual = 0.8  # of the first step
    assert np.exp(tree.rank(high)) == pytest.approx(0.8 / usual)
    assert np.exp(tree.rank(low)) == pytest.approx(0.5 / usual)
    draw(high, (0, 0.6, False), (0, 0.6, False), (0, 0.6, False))
    assert np.exp(tree.rank(high)) == pytest.approx(0.8 / 4 / usual)  # its draws agree
    deep = high.children[0,]
    assert np.exp(tree.rank(deep)) == pytest.approx(0.6 / (usual * 0.6 / 0.8))
    draw(deep, (0, 0.55, True), (1, 0.1, False), (2, 0.1, False))
    assert tree.best is deep.children[0,]
    assert tree.rank(low) == tree.rank(deep.children[1,]) == -np.inf  # of less than the best
    assert tree.rank(deep) > -np.inf
    draw(deep, (0, 0.55, True), (0, 0.55, True), (3, 0.58, True))
    assert tree.best is deep.children[3,]
    assert not tree.settled  # there may be more


@pytest.mark.parametrize("name", ["a-star", "mcts"])
def test_draws_are_those_of_n_whole_texts(name):
    """Though a text may have nine steps and none has more than three."""
    writing = replace(exact.WRITING, max_steps=9)
    strategy = scaling.as_strategy(name)
    for o in strategy.run(exact.ENGINE, ["a"] * 5, exact.REWARD, 8, key=2, writing=writing):
        assert 8 < o.cost.tokens_generated <= 8 * exact.TOKENS


def test_a_perfect_text_ends_the_search():
    """A reward that is sure of a text cannot be more so: nothing is spent on others."""
    sure = scaling.Writing(step=1, max_tokens=exact.TOKENS)
    verifier = replace(PERFECT, fn=lambda texts: [1.0] * len(texts))
    for name, options in itertools.product(("a-star", "mcts"), ({}, {"leaves": 2})):
        strategy = replace(scaling.as_strategy(name), **options)
        for o in strategy.run(exact.ENGINE, ["a"] * 4, verifier, 64, key=2, writing=sure):
            assert o.cost.tokens_generated <= 4 * 2 * 2 * exact.TOKENS


def test_where_values_have_no_bound_a_finished_text_is_not_taken_for_perfect():
    """Log-odds of more than 0 are no certainty."""
    odds = Tilt(PERFECT, scale="logit")
    whole = partial(scaling.BestFirst(leaves=4).run, exact.ENGINE, ["a"] * 3)
    for o in whole(odds, 8, key=2, writing=exact.WRITING):
        assert o.cost.tokens_generated > 8
