"""Products that weights depend on are asked for in full precision where JAX would round them: on GPUs."""

from functools import partial

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
import pytest
from jax.extend.core import jaxprs_in_params

from smcgen.core.precision import full_precision
from smcgen.core.resampling.transport import squared_distances
from smcgen.learn import Quadratic
from smcgen.samplers.paths.numpyro import numpyro_path
from smcgen.ssm import Bootstrap, StateSpaceModel


class Linear(StateSpaceModel):
    def initial(self):
        return dist.MultivariateNormal(jnp.zeros(2), jnp.eye(2))

    def transition(self, t, x):
        return dist.MultivariateNormal(x @ jnp.eye(2), jnp.eye(2))

    def observation(self, t, x):
        return dist.Normal(x @ jnp.ones(2), 1.0)


def _regression():
    import numpyro

    w = numpyro.sample("w", dist.Normal().expand([2]).to_event(1))
    numpyro.sample("y", dist.Normal(jnp.ones((3, 2)) @ w, 1.0).to_event(1), obs=jnp.ones(3))


X = jnp.ones((4, 2))
PROGRAMS = {
    "a filter": partial(Bootstrap(Linear(), jnp.ones(3)).log_transition, 1, X, X),
    "a twist": partial(Quadratic.flat(2, 2), 1, X),
    "a NumPyro model": partial(numpyro_path(_regression).evaluate, None, {"w": X[0]}, 1.0),
    "distances": partial(squared_distances, X),
}


def products(jaxpr):
    """Precisions of all products in a program."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation.params["precision"]
        for inner in jaxprs_in_params(equation.params):
            yield from products(inner)


def precisions(program):
    # a new function: what JAX keeps of one does not know that the back end was exchanged
    found = set(products(jax.make_jaxpr(lambda: program())().jaxpr))
    assert found
    return {str(p) for both in found for p in (both if isinstance(both, tuple) else (both,))}


@pytest.mark.parametrize("name", PROGRAMS)
def test_on_a_gpu_products_are_exact_unless_a_person_says_otherwise(name, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    assert precisions(PROGRAMS[name]) == {"None"}
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert precisions(PROGRAMS[name]) == {"HIGHEST"}
    with jax.default_matmul_precision("tensorfloat32"):
        assert precisions(PROGRAMS[name]) != {"HIGHEST"}


def test_what_a_user_computes_elsewhere_is_left_alone(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    with full_precision():
        pass
    assert precisions(lambda: X @ X.T) == {"None"}
