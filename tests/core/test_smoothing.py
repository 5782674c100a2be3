"""Smoothing: E[Z-hat (estimate - truth)] = 0 on enumerated chains, at n = 6, whatever the way of drawing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen.core.additive import fixed_lag, smooth_additive
from smcgen.core.tree import Remembering, remembered_paths
from smcgen.errors import InvalidArgument, ModelError, SmcgenError, UnknownName
from tests.core.models import chain, gaussian, markov_chain
from tests.laws import assert_unbiased

RUNS, N = 4_000, 6
MODEL = markov_chain(seed=2, states=3, steps=4, spread=1.0)
SCORES = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3, 3)), jnp.float32)


def h(t, x_prev, x):
    """Terms that look at both times; at time 0 only the state itself."""
    return SCORES[t, x_prev, x]


def total(path):
    terms = [SCORES[0, path[0], path[0]]]
    terms += [SCORES[t, path[t - 1], path[t]] for t in range(1, len(path))]
    return float(sum(terms))


def run(key):
    return smcgen.smc(MODEL, key, N, ess_threshold=1.0, keep="particles")


def bound(t):
    return jnp.max(MODEL.log_g_[t])


def unbiased(estimate):
    """`estimate(key, result)` of the sum of h, against enumeration."""

    def one(key):
        first, second = jax.random.split(key)
        result = run(first)
        return jnp.exp(result.log_evidence), estimate(second, result)

    z, values = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(3), RUNS))
    z, values = np.asarray(z, np.float64), np.asarray(values, np.float64)
    truth = MODEL.exact(total) / MODEL.exact()
    assert_unbiased(z * (values - truth), 0.0)
    assert values.std() > 0.01


@pytest.mark.slow
@pytest.mark.parametrize("method", ["exact", "rejection", "mcmc"])
def test_backward_paths(method):
    def estimate(key, result):
        options = {"method": method, "tries": 2}
        if method == "rejection":
            options["log_bound"] = bound
        paths = smcgen.backward_sample(MODEL, result, key, 3, **options)
        before = jnp.concatenate([paths[:1], paths[:-1]])
        return jnp.mean(jnp.sum(jax.vmap(h)(jnp.arange(5), before, paths), axis=0))

    unbiased(estimate)


@pytest.mark.slow
@pytest.mark.parametrize("draws", [None, 2])
def test_additive_functionals(draws):
    unbiased(lambda key, result: smooth_additive(MODEL, result, h, key, draws=draws)[-1])


@pytest.mark.slow
def test_exact_sums_of_one_run_agree_with_enumeration_over_its_particles():
    """The forward recursion against the sum over all n^(T+1) backward paths of one run."""
    model = markov_chain(seed=4, states=3, steps=2)
    result = smcgen.smc(model, 1, 3, ess_threshold=1.0, keep="particles")
    x, lw = np.asarray(result.history), np.asarray(result.history_log_weights, np.float64)
    move = np.asarray(model.log_move, np.float64)
    expected = 0.0
    for i in range(3):
        w2 = np.exp(lw[1] + move[x[1], x[2, i]])
        for j in range(3):
            w1 = np.exp(lw[0] + move[x[0], x[1, j]])
            for k in range(3):
                p = np.exp(lw[2, i]) * w2[j] / w2.sum() * w1[k] / w1.sum()
                expected += p * total([x[0, k], x[1, j], x[2, i]])
    found = smooth_additive(model, result, h)
    assert found.shape == (3,)
    np.testing.assert_allclose(found[-1], expected, rtol=1e-5)


@pytest.mark.slow
def test_fixed_lag_goes_from_filtering_to_the_genealogy():
    model = gaussian()
    result = smcgen.smc(model, 0, 20, ess_threshold=0.7, keep="particles")
    w = np.exp(np.asarray(result.history_log_weights))
    x = np.asarray(result.history)
    np.testing.assert_allclose(fixed_lag(result, lambda v: v, 0), (w * x).sum(1), atol=1e-6)
    paths = np.asarray(result.trajectories())
    whole = (w[-1] * paths).sum(1)
    np.testing.assert_allclose(fixed_lag(result, lambda v: v, 99), whole, atol=1e-6)
    # lag 1 by hand
    a = np.asarray(result.ancestors)
    by_hand = [(w[t + 1] * x[t][a[t]]).sum() for t in range(len(x) - 1)]
    np.testing.assert_allclose(fixed_lag(result, lambda v: v, 1)[:-1], by_hand, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_the_tree_remembers_the_same_paths(threshold):
    """In memory that does not grow as T n does."""
    model = gaussian(y=np.random.default_rng(1).normal(size=60))
    kept = smcgen.smc(model, 5, 16, ess_threshold=threshold, keep="particles")
    result = smcgen.smc(Remembering(model), 5, 16, ess_threshold=threshold, keep="summary")
    np.testing.assert_array_equal(remembered_paths(result), kept.trajectories())
    tree = result.particles.tree
    assert int(tree.used.sum()) < 60 + 16 * 8 < 60 * 16
    # every node in use is on the path of a living particle
    assert int(tree.used.sum()) == sum(len(np.unique(line)) for line in kept.ancestry())


@pytest.mark.slow
def test_a_tree_that_is_too_small_says_so():
    model = Remembering(gaussian(y=np.zeros(40)), capacity=32)
    result = smcgen.smc(model, 0, 16, ess_threshold=0.0)
    with pytest.raises(SmcgenError, match="more than 32 nodes"):
        remembered_paths(result)
    with pytest.raises(InvalidArgument, match="at least 2 n"):
        smcgen.smc(Remembering(gaussian(), capacity=31), 0, 16)
    with pytest.raises(InvalidArgument, match="Remembering"):
        remembered_paths(smcgen.smc(gaussian(), 0, 16))


@pytest.mark.slow
def test_bad_input(unchecked):
    result = smcgen.smc(MODEL, 0, N, keep="particles")
    with pytest.raises(UnknownName, match="method='forward'"):
        smcgen.backward_sample(MODEL, result, 0, method="forward")
    with pytest.raises(InvalidArgument, match="log_bound"):
        smcgen.backward_sample(MODEL, result, 0, method="rejection")
    with pytest.raises(InvalidArgument, match="keep"):
        smcgen.backward_sample(MODEL, smcgen.smc(MODEL, 0, N), 0)
    with pytest.raises(ModelError, match="log_transition"):
        smcgen.backward_sample(chain(), result, 0)
    with pytest.raises(InvalidArgument, match="draws=1"):
        smooth_additive(MODEL, result, h, draws=1)
    with pytest.raises(InvalidArgument, match="lag=-1"):
        fixed_lag(result, lambda v: v, -1)


@pytest.mark.slow
def test_one_observation():
    """Nothing to smooth: the lag does not matter."""
    one = markov_chain(seed=2, states=3, steps=0)
    result = smcgen.smc(one, 0, N, keep="particles")
    known = result.expectation(lambda x: 1.0 * x)
    np.testing.assert_allclose(fixed_lag(result, lambda x: 1.0 * x, 2), known[None], rtol=1e-6)
