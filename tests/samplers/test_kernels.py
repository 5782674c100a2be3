"""Kernels leave their target invariant; their scale comes from the particles."""

import blackjax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from smcgen.errors import InvalidArgument, UnknownName
from smcgen.samplers import HMC, MALA, NUTS, Algorithm, Custom, RandomWalk, Target, Until
from smcgen.samplers.kernels import KERNELS, resolve
from smcgen.samplers.kernels.tuning import spread
from smcgen.samplers.moves import pick, walk
from tests.laws import assert_law
from tests.samplers.models import LINEAR, NUMPYRO, SIGMA, X3, fixed_walk

BARKER = Algorithm(build=lambda log_density, step: blackjax.barker(log_density, step))
AT = 0.35
PRECISION = np.eye(3) + AT * X3.T @ X3 / SIGMA**2
COVARIANCE = np.linalg.inv(PRECISION)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kernel",
    [RandomWalk(), MALA(), HMC(), NUTS(max_doublings=3), BARKER, NUMPYRO],
    ids=lambda k: type(k).__name__,
)
def test_invariance(kernel):
    """Exact draws from the target stay exact: Kolmogorov-Smirnov of three projections after two moves."""
    n = 20_000
    y = np.asarray(LINEAR.log_likelihood.args[0]["y"], np.float64)
    mean = COVARIANCE @ X3.T @ y * AT / SIGMA**2
    x = np.random.default_rng(3).multivariate_normal(mean, COVARIANCE, n)
    target = Target(LINEAR, jnp.float32(AT))

    @jax.jit
    def moved(x, key):
        points = jax.vmap(lambda x: target.evaluate(None, x))(x)
        return walk(key, kernel, target, points, kernel.tune(None, x, jnp.zeros(n), None), 2)

    walked = moved(jnp.asarray(x, jnp.float32), jax.random.key(0))
    assert 0.2 < walked.acceptance < 0.99
    assert walked.evaluations >= 2 * n
    new = np.asarray(walked.points.x)
    assert np.mean(np.all(new == np.asarray(x, np.float32), 1)) < 0.8
    for direction in ([1, 0, 0], [0, 1, -1], [1, 1, 1]):
        sd = np.sqrt(direction @ COVARIANCE @ direction)
        p = stats.kstest((new - mean) @ direction / sd, "norm").pvalue
        assert p > 1e-6, f"projection on {direction}: p={p:.2g}"
    again = jax.vmap(lambda x: target.evaluate(None, x))(walked.points.x)
    np.testing.assert_allclose(
        walked.points.log_likelihood, again.log_likelihood, rtol=1e-4, atol=1e-4
    )


@pytest.mark.slow
def test_covariance_of_weighted_particles():
    """Shrunk by d / (ESS + d), for coordinates of very different size, in single precision."""
    rng = np.random.default_rng(0)
    root = np.array([[1e-3, 0, 0], [50.0, 80.0, 0], [0.1, -0.2, 0.3]])
    x = rng.normal(size=(4000, 3)) @ root.T + [5.0, -1e4, 0.0]
    log_weights = np.log(rng.uniform(size=4000))
    log_weights[:10], x[:10] = -np.inf, np.nan  # impossible particles do not count
    weights = np.exp(log_weights)
    exact = np.cov(x[10:].T, aweights=weights[10:], ddof=0)
    kept = 1 - 3 / (weights.sum() ** 2 / (weights**2).sum() + 3)
    arrays = jnp.asarray(x, jnp.float32), jnp.asarray(log_weights, jnp.float32)
    factor = np.asarray(spread(*arrays, True), np.float64)
    sd = np.sqrt(np.diag(exact))
    shrunk = exact / np.outer(sd, sd) * kept + (1 - kept) * np.eye(3)
    np.testing.assert_allclose(factor @ factor.T / np.outer(sd, sd), shrunk, atol=2e-3)
    np.testing.assert_allclose(spread(*arrays, False), sd, rtol=1e-3)


@pytest.mark.slow
def test_a_population_of_one_value_keeps_a_finite_scale():
    x = jnp.ones((50, 2))
    for dense in (True, False):
        assert np.all(np.isfinite(spread(x, jnp.zeros(50), dense)))


@pytest.mark.slow
def test_step_size_follows_the_acceptance():
    kernel, x, even = RandomWalk(), jnp.eye(4), jnp.zeros(4)
    first = kernel.tune(None, x, even, None)
    np.testing.assert_allclose(np.exp(first.log_step), 2.38 / 2, rtol=1e-5)
    assert kernel.tune(first, x, even, jnp.float32(0.6)).log_step > first.log_step
    assert kernel.tune(first, x, even, jnp.float32(0.05)).log_step < first.log_step
    assert kernel.tune(first, x, even, jnp.float32(jnp.nan)).log_step == first.log_step
    fixed = fixed_walk(4)
    at_first = fixed.tune(None, x, even, None)
    later = fixed.tune(at_first, 9 * x, even, jnp.float32(0.9))
    jax.tree.map(np.testing.assert_array_equal, at_first, later)


@pytest.mark.slow
def test_picking_is_by_weight_and_never_of_weight_zero():
    weights = np.array([0.0, 0.2, 0.0, 0.5, 0.3, 0.0])
    rows = jnp.log(jnp.broadcast_to(jnp.asarray(weights, jnp.float32), (30_000, 6))) - 200.0
    chosen = np.asarray(pick(jax.random.key(0), rows))
    assert_law(np.bincount(chosen, minlength=6), weights)


@pytest.mark.slow
def test_moves_until_the_start_is_forgotten():
    """The random walk's autocorrelation falls below the threshold, and not long before the end."""
    target, kernel = Target(LINEAR, jnp.float32(0.0)), fixed_walk(3, 0.5)
    x = jax.random.normal(jax.random.key(1), (2000, 3))
    points = jax.vmap(lambda x: target.evaluate(None, x))(x)
    tuning = kernel.tune(None, x, jnp.zeros(2000), None)
    corr = lambda moved: np.mean(
        [np.corrcoef(x[:, j], moved.points.x[:, j])[0, 1] for j in range(3)]
    )
    run = jax.jit(lambda moves: walk(jax.random.key(2), kernel, target, points, tuning, moves))
    until = walk(jax.random.key(2), kernel, target, points, tuning, Until(0.3))
    assert 2 < until.moves < 30
    assert corr(until) < 0.3 < corr(run(until.moves - 1))
    np.testing.assert_allclose(run(until.moves).points.x, until.points.x, atol=1e-5)
    assert walk(jax.random.key(2), kernel, target, points, tuning, Until(0.01, 4)).moves == 4


def test_kernels_by_name():
    assert {name: type(resolve(name)) for name in KERNELS} == KERNELS
    assert isinstance(resolve(lambda key, x, at: x), Custom)
    with pytest.raises(UnknownName, match="'hmc', 'mala', 'nuts', 'random_walk'"):
        resolve("gibbs")
    with pytest.raises(InvalidArgument, match=r"kernel=3.*move\(key, x, at\)"):
        resolve(3)
    for wrong in ({"correlation": 1.0}, {"at_most": 0}):
        with pytest.raises(InvalidArgument):
            Until(**wrong)
