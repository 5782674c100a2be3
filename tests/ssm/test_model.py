"""Models are pytrees of parameters; what is wrong with one is said before a run."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest

from smcgen.errors import InvalidArgument, ModelError
from smcgen.ssm import Auxiliary, Bootstrap, Guided, Inputs, StateSpaceModel, static
from tests.ssm.models import Scalar, Switching, Volatility


def test_a_model_is_a_pytree_of_its_parameters():
    class Walk(Volatility):
        order: int = static(default=2)

    model = Walk(rho=0.5)
    leaves, structure = jax.tree.flatten(model)
    assert leaves == [-0.5, 0.5, 0.6]
    again = jax.tree.unflatten(structure, leaves)
    assert (again.order, again.rho) == (2, 0.5)
    assert repr(model) == "Walk(mu=-0.5, rho=0.5, sigma=0.6, order=2)"
    with pytest.raises(AttributeError, match="rho"):
        model.rho = 1.0


def test_a_model_must_be_whole():
    class Half(StateSpaceModel):
        def initial(self):
            return dist.Normal(0.0, 1.0)

        def transition(self, t, x_prev):
            return dist.Normal(x_prev, 1.0)

    with pytest.raises(TypeError, match="observation"):
        Half()


class Plain:
    pass


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_model():
    with pytest.raises(ModelError, match="Plain is not a state-space model"):
        Bootstrap(Plain(), np.zeros(3))
    with pytest.raises(ModelError, match="Auxiliary wraps a Bootstrap or Guided filter, not Plain"):
        Auxiliary(Plain())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_parameter_that_is_not_finite(bad):
    with pytest.raises(InvalidArgument, match=r"model\.rho=.* is not allowed: expected finite"):
        Bootstrap(Volatility(rho=bad), np.zeros(3))


class Loose(StateSpaceModel):
    """Whose laws are given."""

    laws: Any = static()

    def initial(self):
        return self.laws[0]()

    def transition(self, t, x_prev):
        return self.laws[1](x_prev)

    def observation(self, t, x):
        return self.laws[2](x)


START, MOVE = lambda: dist.Normal(0.0, 1.0), lambda x: dist.Normal(x, 1.0)
SEE = lambda x: dist.Normal(x, 1.0)
VECTOR = lambda: dist.Normal(jnp.zeros(3), 1.0).to_event(1)


@pytest.mark.parametrize(
    ("laws", "message"),
    [
        ((lambda: dist.Normal(jnp.zeros(3), 1.0), MOVE, SEE), r"initial.*batch shape \(3,\).*to_event\(1\)"),
        ((VECTOR, MOVE, lambda x: SEE(x[:, 0])), r"transition.*batch shape \(\d+, 3\).*\.to_event\(1\)"),
        ((START, lambda x: dist.Poisson(jnp.exp(x)), SEE), r"time 0 has float32\[n\], time 1 has int32\[n\]"),
    ],
)  # fmt: skip
def test_laws_of_a_wrong_shape(laws, message):
    with pytest.raises(ModelError, match=message):
        Bootstrap(Loose(laws), np.zeros(4))


@pytest.mark.usefixtures("unchecked")
def test_what_is_no_law():
    with pytest.raises(ModelError, match=r"observation\(t, x\) is a .*expected a numpyro distr"):
        Bootstrap(Loose((START, MOVE, lambda x: 2 * x)), np.zeros(4))


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros((4, 2, 3)), r"y='array of shape \(4, 2, 3\)'.*\(times\) or \(series, times\)"),
        (np.zeros(0), r"array of shape \(0,\)"),
        ({"a": np.zeros(3)}, r"expected one array"),
        ("abc", "an array of numbers"),
    ],
)
def test_observations_of_a_wrong_shape(y, message):
    with pytest.raises(InvalidArgument, match=message):
        Bootstrap(Volatility(), y)


def test_observations_by_name():
    model = Switching(jnp.eye(2), jnp.ones(2))
    with pytest.raises(InvalidArgument, match=r"dictionary of \['count', 'level'\]"):
        Bootstrap(model, np.zeros(3))
    with pytest.raises(InvalidArgument, match="the same times for every variable"):
        Bootstrap(model, {"level": np.zeros(3), "count": np.zeros(4)})


def test_a_gap_that_cannot_be_integrated_out():
    shares = lambda x: dist.Dirichlet(jnp.ones((len(x), 3)))
    y = np.full((4, 3), 1 / 3)
    y[1] = np.nan
    assert Bootstrap(Loose((START, MOVE, shares)), y).missing == "rows"
    y[2, 0] = np.nan
    with pytest.raises(InvalidArgument, match=r"missing in part.*whole rows of NaN"):
        Bootstrap(Loose((START, MOVE, shares)), y)


def test_inputs_know_where_they_end():
    model = Scalar(0.9, 1.0, 1.0, Inputs(np.zeros(5)))
    assert Bootstrap(model, np.zeros(5)).num_steps == 4
    with pytest.raises(InvalidArgument, match=r"u='5 times'.*at least 6 times"):
        Bootstrap(model, np.zeros(6))
    with pytest.raises(InvalidArgument, match="to simulate 5 steps"):
        model.simulate(0, 5)
    with pytest.raises(InvalidArgument, match="one common leading axis"):
        Inputs({"a": np.zeros(3), "b": np.zeros(4)})


def test_a_proposal_must_be_a_function():
    with pytest.raises(InvalidArgument, match="proposal=3"):
        Guided(Volatility(), np.zeros(3), 3)
    loose = Loose((lambda: dist.Gamma(1.0, 1.0), lambda x: dist.Gamma(x, 1.0), SEE))
    with pytest.raises(ModelError, match="Categorical or Gaussian transition, not Gamma"):
        Guided(loose, np.zeros(3))


@pytest.mark.slow
def test_a_filter_says_what_it_is():
    assert repr(Bootstrap(Volatility(), np.zeros((2, 5)))) == (
        "Bootstrap(Volatility(mu=-0.5, rho=0.9, sigma=0.6), y: 2 series, 5 times)"
    )
    assert "y: 3 times, some missing" in repr(Guided(Volatility(), [0.0, np.nan, 1.0]))


def test_numbers_of_a_simulation():
    for options, name in (((-1,), "num_steps"), ((3, 0), "num_series")):
        with pytest.raises(InvalidArgument, match=name):
            Volatility().simulate(0, *options)
