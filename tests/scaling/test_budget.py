"""Hard limits: never exceeded, and what there is comes back."""

import itertools
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest

from smcgen import scaling
from smcgen.core.status import SMCInterrupted, Status
from smcgen.errors import InvalidArgument
from smcgen.scaling import job
from smcgen.scaling.budget import as_budget
from smcgen.scaling.strategies import votes
from tests.scaling import exact
from tests.text.toy import ToyEngine, ToySession

LIMITS = [
    scaling.Budget(tokens=7),
    scaling.Budget(rollouts=4, tokens=9),
    scaling.Budget(rollouts=4, reward_calls=6),
    scaling.Budget(rollouts=4, seconds=1e-9),
    scaling.Budget(reward_calls=9),
    scaling.Budget(rollouts=3),
]


@pytest.mark.parametrize("budget", LIMITS, ids=str)
@pytest.mark.parametrize("name", exact.NAMES)
def test_budgets_are_never_exceeded(name, budget):
    strategy = scaling.as_strategy(name)
    outcomes = exact.run(strategy, budget, prompts=6)
    spent = {
        "rollouts": [len(o.texts) for o in outcomes],
        "tokens": [o.cost.tokens_generated for o in outcomes],
        "reward_calls": [o.cost.reward_calls for o in outcomes],
    }
    for limit, found in spent.items():
        allowed = getattr(budget, limit)
        most = np.mean(found) if strategy.pooled else max(found)
        assert allowed is None or most <= allowed, limit
    for o in outcomes:
        assert o.cost.tokens_generated == o.candidates.lengths.sum() or strategy.needs_reward
        assert o.text in o.texts
    if budget.seconds:
        assert all(o.status is Status.BUDGET_EXHAUSTED for o in outcomes)
        assert all(set(o.texts) == {""} for o in outcomes)
    if budget.rollouts == 3:
        assert all(o.status is Status.OK for o in outcomes)


def test_tokens_are_shared_and_the_search_says_so():
    outcomes = exact.run(scaling.ParticleFilter(), scaling.Budget(rollouts=4, tokens=9), prompts=30)
    spent = np.array([o.cost.tokens_generated for o in outcomes])
    out = np.array([o.status is Status.BUDGET_EXHAUSTED for o in outcomes])
    assert out.any()
    assert (spent <= 9).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["majority", "best-of-n"])
def test_tokens_are_spent_until_no_full_text_is_safe(name):
    budget = scaling.Budget(tokens=20)
    keys = jax.random.split(jax.random.key(3), 4)
    run = lambda prompts, key: scaling.as_strategy(name).run(
        exact.ENGINE, prompts, exact.REWARD, budget, key=key, writing=exact.WRITING
    )
    outcomes = run(["a"] * 4, keys)
    for o in outcomes:
        assert 20 - exact.TOKENS < o.cost.tokens_generated <= 20
        assert o.cost.tokens_generated == o.candidates.lengths.sum()
        assert o.status is Status.OK
        assert len(o.runs[0].texts) == 20 // exact.TOKENS
    assert len({len(o.runs) for o in outcomes}) > 1  # each goes on as long as its own texts let it
    together, alone = outcomes[2], run("a", keys[2])
    assert together.texts == alone.texts
    assert together.ranking.tolist() == alone.ranking.tolist()


def test_a_budget_that_limits_nothing_of_a_strategy_is_spent_once():
    """Reward calls, for a strategy without a reward whose texts never agree."""
    number = itertools.count()
    writing = replace(exact.WRITING, answer=lambda text: str(next(number)))
    for name in ("adaptive-consistency", "adaptive-allocation", "majority"):
        budget = scaling.Budget(reward_calls=3)
        outcome = scaling.as_strategy(name).run(exact.ENGINE, "a", None, budget, writing=writing)
        assert len(outcome.texts) == 1


@pytest.mark.slow
def test_temperatures_take_turns_in_waves(monkeypatch):
    written = {}

    def count(real, job, potential, sizes, **options):
        of = options["sampling"].temperature
        written[of] = written.get(of, 0) + sizes
        real(job, potential, sizes, **options)

    monkeypatch.setattr(votes, "write_sizes", partial(count, votes.write_sizes))
    outcomes = exact.run(
        scaling.MultiTemperature(temperatures=(0.5, 2.0)), scaling.Budget(tokens=14), 3
    )
    assert all(14 - exact.TOKENS < o.cost.tokens_generated <= 14 for o in outcomes)
    parts = np.array([*written.values()])
    assert parts.sum() > 3 * (14 // exact.TOKENS)
    assert (np.diff(parts, axis=0) <= 0).all()
    assert (parts[0] - parts[-1] <= 1).all()


@pytest.mark.slow
def test_a_limit_of_reward_calls_ends_the_waves():
    budget = scaling.Budget(tokens=60, reward_calls=9)
    for o in exact.run(scaling.BestOfN(), budget, prompts=4):
        assert len(o.texts) == 9


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: as_budget(0), "budget=0"),
        (lambda: as_budget(True), "budget=True"),
        (lambda: as_budget(2.5), "budget=2.5"),
        (lambda: scaling.Budget(), "rollouts, tokens or reward_calls"),
        (lambda: scaling.Budget(rollouts=2, tokens=0), "tokens=0"),
        (lambda: scaling.Budget(rollouts=2, seconds=-1.0), "seconds=-1.0"),
    ],
)
def test_what_is_not_a_budget(make, named):
    with pytest.raises(InvalidArgument, match=named):
        make()


class _Wasteful(ToySession):
    """It throws away a token in each step."""

    def extend(self, *args, **options):
        self.meter.add(tokens_generated=1)
        return super().extend(*args, **options)


def test_tokens_that_an_engine_throws_away_are_counted():
    engine = ToyEngine(3, max_tokens=exact.TOKENS)

    class Throwing(ToyEngine):
        def open(self, prompts, n, law, meter, completions=None):
            return _Wasteful(engine, len(prompts) * n, law, meter)

    outcome = scaling.Sample().run(Throwing(3, exact.TOKENS), "a", None, 3, writing=exact.WRITING)
    steps = outcome.candidates.lengths.max()
    assert outcome.cost.tokens_generated == outcome.candidates.lengths.sum() + steps


def test_prompts_that_were_not_begun_when_ctrl_c_came_are_not_taken_for_done(monkeypatch):
    monkeypatch.setattr(ToyEngine, "concurrent", True, raising=False)
    monkeypatch.setattr(job, "smc_each", lambda models, *args, **options: [None] * len(models))
    with pytest.raises(SMCInterrupted):
        scaling.Sample().run(exact.ENGINE, ["a", "b"], None, 3, writing=exact.WRITING)
