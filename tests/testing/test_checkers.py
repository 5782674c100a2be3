"""Each checker passes what is right and catches what is wrong."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm

import smcgen
from smcgen import testing
from smcgen.errors import InvalidArgument
from smcgen.testing import LawBroken
from tests.core.models import Host, MarkovChain, gaussian, markov_chain
from tests.core.test_gibbs import HostChain

MODEL = markov_chain(seed=3, states=2, steps=3, spread=1.2)
LOG_Z = float(np.log(MODEL.exact()))
LAST_IS_1 = MODEL.exact(lambda path: float(path[-1] == 1)) / MODEL.exact()


def share(result):
    return result.expectation(lambda x: (x == 1).astype(float))


@pytest.mark.slow
def test_unbiased():
    verdicts = testing.check_unbiased(MODEL, LOG_Z, {"x_T = 1": (share, LAST_IS_1)})
    assert [v.p > 1e-6 for v in verdicts] == [True, True]
    with pytest.raises(LawBroken, match=r"E\[Z-hat\] / Z: mean .* expected 1"):
        testing.check_unbiased(MODEL, LOG_Z + 0.2)
    with pytest.raises(LawBroken, match="x_T = 1"):
        testing.check_unbiased(MODEL, LOG_Z, {"x_T = 1": (share, LAST_IS_1 + 0.1)})
    testing.check_unbiased(Host(MODEL), LOG_Z, runs=20)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Twisted(MarkovChain):
    """The chain with a twist psi_t = exp(twist[t, x])."""

    twist: Any = None

    def log_g(self, t, x_prev, x):
        before = 0.0 if x_prev is None else self.twist[t - 1][x_prev]
        return super().log_g(t, x_prev, x) + self.twist[t][x] - before


@pytest.mark.slow
def test_twists_share_one_target():
    twist = jnp.asarray(np.random.default_rng(0).normal(size=(4, 2)), jnp.float32)
    fields = (MODEL.log_start, MODEL.log_move, MODEL.log_g_)
    right = Twisted(*fields, twist.at[-1].set(0.0))
    statistics = {"x_T = 1": share}
    assert len(testing.check_twist_consistency([MODEL, right], statistics)) == 2
    with pytest.raises(LawBroken, match="models 0 and 1"):
        testing.check_twist_consistency([MODEL, Twisted(*fields, twist)], statistics)
    with pytest.raises(InvalidArgument, match="at least two"):
        testing.check_twist_consistency([MODEL])


class Overwritten(MarkovChain):
    """Its pinned weight is wrong: the reference is scored as if it had been in state 0."""

    def step_pinned(self, key, t, state, reference):
        x, log_g = super().step_pinned(key, t, state, reference)
        return x, log_g.at[0].set(self.log_g_[t][0])


@pytest.mark.slow
def test_conditional_smc_is_invariant():
    paths, law = MODEL.paths()
    draw = lambda key: jnp.asarray(paths)[jax.random.choice(key, len(paths), p=jnp.asarray(law))]
    index = lambda path: jnp.sum(path * 2 ** jnp.arange(4)[::-1])
    verdict = testing.check_csmc_invariant(MODEL, draw, index, law, rejuvenate=None)
    assert verdict.p > 1e-6
    testing.check_csmc_invariant(MODEL, draw, index, n_particles=3)  # two samples
    wrong = Overwritten(MODEL.log_start, MODEL.log_move, MODEL.log_g_)
    with pytest.raises(LawBroken, match="after a sweep"):
        testing.check_csmc_invariant(wrong, draw, index, law, rejuvenate=None)
    # a model driven from Python: paths are lists of records
    as_list = lambda key: list(np.asarray(draw(key)))
    of_list = lambda path: int(index(jnp.asarray(path)))
    testing.check_csmc_invariant(HostChain(MODEL), as_list, of_list, law, runs=12)


class Forgetful(Host):
    """A cache beside the state, which `take` forgets."""

    def __init__(self, model, forgets):
        super().__init__(model)
        self.forgets = forgets

    def init(self, key, n):
        x, log_g = super().init(key, n)
        return {"x": x, "cache": np.asarray(x) ** 2}, log_g

    def step(self, key, t, state):
        x, log_g = super().step(key, t, state["x"])
        return {"x": x, "cache": np.asarray(x) ** 2}, log_g

    def take(self, state, ancestors):
        cache = state["cache"] if self.forgets else state["cache"][ancestors]
        return {"x": state["x"][ancestors], "cache": cache}


class Opaque(smcgen.FeynmanKac):
    """Its state is a handle; only the record and a probe show something."""

    traceable, num_steps = False, 2

    def init(self, key, n):
        return [np.asarray(jax.random.normal(key, (n,)))], np.zeros(n)

    def step(self, key, t, state):
        return state, np.zeros(len(state[0]))

    def take(self, state, ancestors):
        return [state[0][ancestors[::-1]]]

    def record(self, state):
        return {"x": state[0]}


def test_take_moves_everything():
    assert testing.check_take(Forgetful(gaussian(), forgets=False)) == 2
    with pytest.raises(LawBroken, match=r"state\['cache'\] does not follow"):
        testing.check_take(Forgetful(gaussian(), forgets=True))
    with pytest.raises(LawBroken, match=r"state\[0\] does not follow"):
        testing.check_take(Opaque())
    with pytest.raises(InvalidArgument, match="steps=99"):
        testing.check_take(gaussian(), steps=99)


def prior(key):
    return jax.random.normal(key)


def simulate(key, theta):
    return theta + 0.5 * jax.random.normal(key)


def posterior(key, y, num=1, scale=1.0):
    mean, sd = y / 1.25, np.sqrt(0.2) * scale
    return mean + sd * jax.random.normal(key, (num,))


def metropolis(key, theta, y):
    first, second = jax.random.split(key)
    new = theta + jax.random.normal(first)
    log_p = lambda x: norm.logpdf(x) + norm.logpdf(y, x, 0.5)
    return jnp.where(jnp.log(jax.random.uniform(second)) < log_p(new) - log_p(theta), new, theta)


def test_geweke():
    statistics = {"theta": lambda theta, y: theta, "theta y": lambda theta, y: theta * y}
    assert len(testing.check_geweke(prior, simulate, metropolis, statistics)) == 2
    wrong = lambda key, theta, y: posterior(key, y, scale=1.6)[0]
    with pytest.raises(LawBroken, match="Geweke"):
        testing.check_geweke(prior, simulate, wrong, statistics)
    with pytest.raises(InvalidArgument, match="statistics"):
        testing.check_geweke(prior, simulate, metropolis, {})


@pytest.mark.parametrize("vectorised", [True, False])
def test_calibration(vectorised):
    options = {"runs": 1500 if vectorised else 20, "vectorised": vectorised}
    right = lambda key, y: posterior(key, y, 39)
    ranks = testing.sbc_ranks(prior, simulate, right, **options)
    [verdict] = testing.check_ranks(ranks, 39)
    assert verdict.p > 1e-6
    assert 0 <= ranks.min() <= ranks.max() <= 39
    if not vectorised:
        return
    wide = lambda key, y: posterior(key, y, 39, scale=1.6)
    with pytest.raises(LawBroken, match="ranks of theta"):
        testing.check_ranks(testing.sbc_ranks(prior, simulate, wide, **options), 39)
    with pytest.raises(InvalidArgument, match="bins=41"):
        testing.check_ranks(ranks, 39, bins=41)
