"""NumPyro models as paths: prior and likelihood apart, Jacobians included, against NumPyro's own density."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer.util import potential_energy
from scipy import stats

from smcgen.errors import ModelError
from smcgen.samplers.paths.numpyro import Constants, numpyro_path

X = np.linspace(-1, 1, 5).astype(np.float32)
Y = np.array([0.3, -0.2, 0.5, 1.0, 0.7], np.float32)


def rich(x, y=None):
    """Plates, events, transforms, a support that depends on a site, a factor, a scale, a deterministic site."""
    upper = numpyro.sample("upper", dist.LogNormal(0.0, 0.5))
    inner = numpyro.sample("inner", dist.Uniform(0.0, upper))
    shares = numpyro.sample("shares", dist.Dirichlet(jnp.ones(3)))
    with numpyro.plate("groups", 2):
        effect = numpyro.sample("effect", dist.Beta(2.0, 3.0))
    with numpyro.handlers.scale(scale=1.5):
        slope = numpyro.sample("slope", dist.Normal(0.0, 1.0))
    numpyro.deterministic("twice", 2 * slope)
    numpyro.factor("penalty", -jnp.sum(shares**2))
    with numpyro.plate("data", len(x)):
        numpyro.sample("y", dist.Normal(slope * x + effect.sum() + inner, 0.8), obs=y)


@pytest.mark.slow
def test_density_is_numpyros():
    path = numpyro_path(rich, X, y=Y)
    for seed in range(3):
        z = path.sample(jax.random.key(seed))
        assert {k: v.shape for k, v in z.items()} == {
            "upper": (),
            "inner": (),
            "shares": (2,),
            "effect": (2,),
            "slope": (),
        }
        point = path.evaluate(None, z, 1.0)
        joint = -potential_energy(rich, (X,), {"y": Y}, z)
        np.testing.assert_allclose(point.log_prior + point.log_likelihood, joint, rtol=1e-4)
        own = path.constrain(z)
        np.testing.assert_allclose(own["twice"], 2 * own["slope"], rtol=1e-5)
        mean = own["slope"] * X + own["effect"].sum() + own["inner"]
        rest = stats.norm(mean, 0.8).logpdf(Y).sum() - (own["shares"] ** 2).sum()
        rest += 0.5 * stats.norm.logpdf(
            own["slope"]
        )  # what the scale adds to the prior it is drawn from
        np.testing.assert_allclose(point.log_likelihood, rest, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_arguments_are_data_unless_the_model_looks_at_them():
    assert not isinstance(numpyro_path(rich, X, y=Y).arguments, Constants)

    def looks(groups):
        with numpyro.plate("g", len(np.unique(groups))):
            numpyro.sample("x", dist.Normal(0.0, 1.0))

    path = numpyro_path(looks, np.array([0, 1, 1]))
    assert isinstance(path.arguments, Constants)
    assert path.sample(jax.random.key(0))["x"].shape == (2,)


@pytest.mark.slow
def test_draws_at_the_end_of_their_support_are_a_step_inside():
    """A Beta(.05, .05) is rounded to 0 and 1 in single precision."""
    path = numpyro_path(lambda: numpyro.sample("p", dist.Beta(0.05, 0.05)))
    z = jax.vmap(path.sample)(jax.random.split(jax.random.key(0), 300))
    points = jax.vmap(lambda z: path.evaluate(None, z, 0.0))(z)
    assert np.all(np.isfinite(z["p"]))
    assert np.all(np.isfinite(points.log_prior))


@pytest.mark.parametrize(
    ("site", "message"),
    [
        (lambda: None, "no latent site"),
        (lambda: numpyro.sample("z", dist.Bernoulli(0.5)), "'z' is discrete"),
        (lambda: numpyro.sample("z", dist.Delta(1.0)), "'z' is a constant"),
        (lambda: numpyro.sample("z", dist.Normal(0, 1).mask(False)), "'z' is masked"),
        (
            lambda: numpyro.sample("z", dist.ImproperUniform(dist.constraints.real, (), ())),
            "improper prior",
        ),
    ],
)
def test_models_that_are_refused(site, message):
    with pytest.raises(ModelError, match=message):
        numpyro_path(site)


def test_subsampling_is_refused():
    def model():
        mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
        with numpyro.plate("data", 10, subsample_size=3):
            numpyro.sample("y", dist.Normal(mean, 1.0), obs=jnp.zeros(3))

    with pytest.raises(ModelError, match="plate 'data' subsamples"):
        numpyro_path(model)


def test_nan_and_priors_that_allow_too_much_are_refused():
    def scaled(y, law=dist.HalfNormal):
        scale = numpyro.sample("scale", law(jnp.float32(1.0)))
        numpyro.sample("y", dist.Normal(0.0, scale), obs=y)

    with pytest.raises(ModelError, match="observed site 'y' has NaN; mask"):
        numpyro_path(scaled, jnp.array([0.1, jnp.nan]))
    negative = lambda one: dist.Normal(-9.0 * one, one)
    with pytest.raises(ModelError, match="at a draw from the prior: Normal .* scale"):
        numpyro_path(scaled, jnp.array([0.1]), negative)
