"""Filters beside their laws: densities, several series, what a result says of every time."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

import smcgen
from smcgen.ssm import Auxiliary, Bootstrap, Guided, LocallyOptimal, fully_adapted
from tests.ssm import exact
from tests.ssm.models import Hidden, Switching, Volatility
from tests.ssm.test_laws import GAPS, SCALAR, SEEN, at_mean, five, wide


def parts(filter, x_prev, x):
    """Everything a filter says of a move, in one program."""

    def all_of(filter, x_prev, x):
        log_m, log_g = filter.log_m(2, x_prev, x), filter.log_g(2, x_prev, x)
        return log_m, log_g, filter.log_transition(2, x_prev, x), filter.log_initial(x)

    return [np.asarray(a, np.float64) for a in jax.jit(all_of)(filter, x_prev, x)]


@pytest.mark.slow
def test_densities_of_every_form_are_those_of_one_model():
    y = np.array([0.3, 0.5, np.nan, 0.2])
    x_prev, x = jnp.array([0.1, -0.5, 2.0]), jnp.array([0.3, 0.4, -1.0])
    for seen in (y, np.where(np.isnan(y), 0.7, y)):
        log_m, log_g, both, first = parts(Bootstrap(SCALAR, seen), x_prev, x)
        np.testing.assert_allclose(log_m + log_g, both, rtol=1e-5)
        guided = parts(Guided(SCALAR, seen, wide), x_prev, x)
        np.testing.assert_allclose(guided[0] + guided[1], both, rtol=1e-5)
        np.testing.assert_allclose(guided[2], both, rtol=1e-5)
        if np.isnan(seen[2]):  # nothing was seen: particles move by the model
            np.testing.assert_allclose(guided[0], log_m, rtol=1e-6)
    twisted = parts(Auxiliary(Bootstrap(SCALAR, seen), at_mean), x_prev, x)
    eta = lambda t, x: np.asarray(at_mean(SCALAR, t, x, seen[t + 1]), np.float64)
    gain = eta(2, x) - eta(1, x_prev)
    np.testing.assert_allclose(twisted[2], both + gain, rtol=1e-5)
    np.testing.assert_allclose(twisted[1], log_g + gain, rtol=1e-5)
    np.testing.assert_allclose(twisted[3], first, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["full", "diagonal"])
def test_the_locally_optimal_proposal_is_exact_for_linear_observations(kind):
    from tests.ssm.models import Independent, Linear

    model = five(Linear if kind == "full" else Independent)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(4, 5)), jnp.float32)
    optimal = LocallyOptimal()
    moved = np.asarray(x, np.float64) @ np.asarray(model.A, np.float64).T

    def solved(model, x, y):
        law = optimal(model, 1, x, y)
        return law.loc, law.scale_tril, law.log_prob(x), optimal.log_predictive(model, 0, x, y)

    for y in GAPS:
        if np.isnan(y).all():
            continue
        loc, root, log_q, log_z = jax.jit(solved)(model, x, jnp.asarray(y, jnp.float32))
        mean, cov, expected = exact.conditioned(moved, model.Q, model.H, model.R, y)
        np.testing.assert_allclose(loc, mean, atol=2e-5)
        found = root @ jnp.swapaxes(root, -1, -2)  # one for all, or each its own
        np.testing.assert_allclose(found, np.broadcast_to(cov, found.shape), atol=2e-5)
        np.testing.assert_allclose(log_z, expected, rtol=2e-5)
        plain = dist.MultivariateNormal(jnp.asarray(mean), jnp.asarray(cov)).log_prob(x)
        np.testing.assert_allclose(log_q, plain, rtol=1e-3)


@pytest.mark.slow
def test_a_mode_that_one_newton_step_overshoots():
    """Poisson counts far above what the state expects: a full step would go to exp(50)."""

    class Counts(Volatility):
        def observation(self, t, x):
            return dist.Poisson(jnp.exp(x))

    def solved(steps):
        law = LocallyOptimal(steps)(Counts(mu=0.0), 1, jnp.zeros(2), jnp.float32(100.0))
        return law.loc, law.scale

    (near, _), (mode, spread) = jax.jit(lambda: (solved(1), solved(8)))()
    x = np.linspace(-1, 6, 70001)
    log_joint = 100 * x - np.exp(x) - 0.5 * x**2 / 0.36
    np.testing.assert_allclose(mode, x[np.argmax(log_joint)], atol=1e-3)
    np.testing.assert_allclose(spread, (np.exp(mode) + 1 / 0.36) ** -0.5, rtol=1e-3)
    assert (np.abs(near) < 7).all()


@pytest.mark.slow
@pytest.mark.parametrize("form", [Bootstrap, fully_adapted])
def test_several_series_are_several_runs(form):
    """Of two series one has a gap; with `fully_adapted` both, so that they are one program."""
    y = np.stack([SEEN, np.where(SEEN > 1, np.nan, SEEN)])
    if form is fully_adapted:
        y[0, 2] = np.nan
    keys = jax.random.split(jax.random.key(1), 2)
    both = smcgen.smc(form(SCALAR, y), keys, 50, keep="particles")
    for b in range(2):
        one = smcgen.smc(form(SCALAR, y[b]), keys[b], 50)
        np.testing.assert_allclose(both.log_evidence[b], one.log_evidence, rtol=2e-4)
        np.testing.assert_allclose(both.particles[b], one.particles, rtol=1e-3, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("form", [Bootstrap, fully_adapted])
def test_filtered_means_and_scores_at_every_time(form):
    y = np.where(SEEN == 0.4, np.nan, SEEN)
    _, means, _ = exact.scalar(SCALAR, y)
    filter = form(SCALAR, y)
    run = smcgen.smc(filter, 0, 50_000, keep="particles")
    np.testing.assert_allclose(filter.filtered(run), means[:, 0], atol=0.02)
    totals = [exact.scalar(SCALAR, y[: t + 1])[0] for t in range(len(y))]
    scores = np.diff(totals, prepend=0.0)
    np.testing.assert_allclose(filter.log_scores(run), scores, atol=0.03)
    np.testing.assert_allclose(filter.log_scores(run).sum(), run.log_evidence, atol=1e-3)
    assert scores[3] == 0


@pytest.mark.slow
def test_states_and_observations_by_name():
    """A dictionary state whose second variable is given the first, observed twice, with gaps in each."""
    model = Switching(jnp.array([[0.9, 0.1], [0.2, 0.8]]), jnp.array([0.3, 0.95]))
    states, seen = model.simulate(0, 30)
    assert states["regime"].shape == seen["count"].shape == (31,)
    y = {"level": seen["level"].at[4].set(jnp.nan), "count": seen["count"].astype(jnp.float32)}
    y["count"] = y["count"].at[4].set(jnp.nan).at[7].set(jnp.nan)
    filter = Bootstrap(model, y)
    run = smcgen.smc(filter, 0, 2000, keep="particles")
    assert filter.log_scores(run)[4] == 0
    assert filter.log_scores(run)[7] != 0
    x = {"regime": jnp.array([0, 1]), "level": jnp.array([0.5, -1.0])}
    log_m = filter.log_m(1, x, {"regime": jnp.array([1, 1]), "level": jnp.array([0.2, 0.3])})
    expected = np.log([0.1, 0.8]) + dist.Normal(jnp.array([0.95 * 0.5, -0.95]), 0.5).log_prob(
        jnp.array([0.2, 0.3])
    )
    np.testing.assert_allclose(log_m, expected, rtol=1e-5)


@pytest.mark.slow
def test_parameters_are_traced():
    """Other parameters and observations: the same program; gradients are finite."""
    y = np.array([0.3, -0.5, np.nan, 0.05, 1.0])
    filter = lambda rho: Bootstrap(Volatility(rho=rho), y)
    first = smcgen.smc(filter(0.5), 0, 100)
    from smcgen.core import compile as compiling

    before = len(compiling._programs)
    second = smcgen.smc(filter(0.6), 0, 100)
    assert len(compiling._programs) == before
    assert first.log_evidence != second.log_evidence

    def log_evidence(rho, y):
        return smcgen.smc(Bootstrap(Volatility(rho=rho), y), 0, 100).log_evidence

    slope = jax.jit(jax.grad(log_evidence))(0.5, jnp.asarray(y, jnp.float32))
    assert np.isfinite(slope)
    assert slope != 0


def test_a_hidden_chain_is_enumerated():
    model = Hidden(
        jnp.array([0.3, 0.7]), jnp.array([[0.9, 0.1], [0.3, 0.7]]), jnp.eye(2) * 0.6 + 0.2
    )
    optimal = LocallyOptimal()
    x = jnp.array([0, 1])

    def solved(model):
        law = optimal(model, 1, x, jnp.int32(1))
        return law.probs, optimal.log_predictive(model, 0, x, jnp.int32(1))

    joint = np.asarray(model.P, np.float64) * np.asarray(model.B, np.float64)[:, 1]
    probs, log_z = jax.jit(solved)(model)
    np.testing.assert_allclose(probs, joint / joint.sum(1, keepdims=True), rtol=1e-5)
    np.testing.assert_allclose(log_z, np.log(joint.sum(1)), rtol=1e-5)
