"""All forms estimate the same likelihood and the same posterior without bias: z-tests against exact answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen.ssm import Auxiliary, Bootstrap, Guided, Inputs, LocallyOptimal, fully_adapted
from tests.laws import assert_unbiased
from tests.ssm import exact
from tests.ssm.models import Hidden, Independent, Linear, Scalar, ThetaLogistic, Volatility

RUNS = 4000
NAN = float("nan")


def wide(model, t, x_prev, y):
    """A proposal that is right by its weights alone."""
    import numpyro.distributions as dist

    return dist.StudentT(5.0, 0.5 * y if x_prev is None else 0.5 * (x_prev + y), 0.8)


def at_mean(model, t, x, y_next):
    """Pitt and Shephard's first choice: the likelihood at the predicted mean, tempered."""
    return 0.5 * model.observation(t + 1, model.transition(t + 1, x).mean).log_prob(y_next)


FORMS = {
    "bootstrap": Bootstrap,
    "guided": Guided,
    "guided by hand": lambda model, y: Guided(model, y, wide),
    "auxiliary": lambda model, y: Auxiliary(Bootstrap(model, y), at_mean),
    "fully adapted": fully_adapted,
}


def estimates(filter, n, fn=lambda x: x, runs=RUNS, threshold=0.7):
    """Z-hat and Z-hat phi-hat of the last state, over runs."""

    def one(filter, key):
        run = smcgen.smc(filter, key, n, ess_threshold=threshold)
        z = jnp.exp(run.log_evidence)
        return z, z * run.expectation(fn), run.resampled

    keys = jax.random.split(jax.random.key(n), runs)
    z, zphi, resampled = jax.jit(jax.vmap(one, (None, 0)))(filter, keys)
    resampled = np.asarray(resampled).mean()
    assert 0.02 < resampled < 0.98, (
        f"resampled in {resampled:.0%}: adaptive resampling is not tested"
    )
    return np.asarray(z, np.float64), np.asarray(zphi, np.float64)


def check(filter, log_z, mean, n=8, **options):
    """E[Z-hat] = Z, E[Z-hat phi-hat] = Z phi, scaled by Z."""
    z, zphi = estimates(filter, n, **options)
    scale = np.exp(log_z)
    assert_unbiased(z / scale, 1.0, "Z")
    for i, (values, expected) in enumerate(
        zip(zphi.reshape(len(z), -1).T, np.ravel(mean), strict=True)
    ):
        assert_unbiased(values / scale, expected, f"Z phi[{i}]")


INPUTS = Inputs(np.array([0.0, 0.5, -1.0, 1.0, 0.3, 2.0, -1.0, 0.5, 0.0]))
SCALAR = Scalar(0.9, 0.7, 0.8, INPUTS)
SEEN = np.array([0.5, 1.5, -2.3, 0.4, 1.0])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("form", "gaps"),
    [("bootstrap", []), *((form, [1, 3]) for form in FORMS)],
)
def test_a_scalar_with_inputs(form, gaps):
    y = SEEN.copy()
    y[gaps] = np.nan
    log_z, means, _ = exact.scalar(SCALAR, y)
    check(FORMS[form](SCALAR, y), log_z, means[-1])


def five(kind, seed=0):
    """Five states seen through three noisy sums."""
    rng = np.random.default_rng(seed)
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    q, r = (np.diag(rng.uniform(0.2, 0.6, size=k)) for k in (5, 3))
    if kind is Linear:
        q, r = q + 0.1, r + 0.1
    parts = (np.zeros(5), np.eye(5), 0.9 * rotation, q, rng.normal(size=(3, 5)) / 2, r)
    return kind(*(jnp.asarray(p, jnp.float32) for p in parts))


GAPS = np.array([[0.5, NAN, 1.0], [NAN, NAN, NAN], [-1.0, 0.3, NAN], [0.2, -1.5, 0.7]])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "form"),
    [(Linear, "bootstrap"), (Linear, "fully adapted"), (Independent, "guided")],
)
def test_five_dimensions_with_gaps(kind, form):
    model = five(kind)
    log_z, means, _ = exact.linear(model, GAPS)
    check(FORMS[form](model, GAPS), log_z, means[-1], n=16)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["bootstrap", "fully adapted"])
def test_a_hidden_markov_chain(form):
    model = Hidden(
        jnp.array([0.3, 0.7]),
        jnp.array([[0.9, 0.1], [0.3, 0.7]]),
        jnp.array([[0.9, 0.1], [0.2, 0.8]]),
    )
    y = np.array([0, 1, 1, 0, 0, 1])
    log_z, laws = exact.hidden(model, y)
    check(FORMS[form](model, y), log_z, laws[-1, 1], n=3)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["bootstrap", "fully adapted"])
def test_stochastic_volatility(form):
    model, y = Volatility(), np.array([0.3, -2.0, NAN, 0.05, 1.0, -0.4])
    start = (model.mu, model.sigma / np.sqrt(1 - model.rho**2))
    log_g = lambda y, x: -0.5 * (np.log(2 * np.pi) + x + y**2 * np.exp(-x))
    move = lambda x: model.mu + model.rho * (x - model.mu)
    log_z, means = exact.grid(start, move, model.sigma, log_g, y, -9, 9)
    check(FORMS[form](model, y), log_z, means[-1])


@pytest.mark.slow
def test_the_theta_logistic_model():
    model, y = ThetaLogistic(), np.array([0.2, 1.0, 0.4, -0.8, 0.1, 1.2])
    log_g = lambda y, x: (
        -0.5 * (y - x) ** 2 / model.noise**2 - np.log(2 * np.pi * model.noise**2) / 2
    )
    move = lambda x: x + model.a - model.b * np.exp(model.c * x)
    log_z, means = exact.grid((0.0, 1.0), move, model.sigma, log_g, y, -8, 8)
    check(Guided(model, y, LocallyOptimal(2)), log_z, means[-1])
