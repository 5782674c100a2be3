"""What is wrong with parameters and observations is said before a run, by name."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
import pytest
from scipy import stats

import smcgen
from smcgen.errors import InvalidArgument
from smcgen.ssm import Bootstrap, Guided, StateSpaceModel, fully_adapted, static
from tests.laws import assert_unbiased
from tests.ssm.models import Volatility

Y = np.array([0.3, -1.2, 0.5, 0.1], np.float32)
A = np.array([[0.5, 0.2], [1.0, 0.0]])
PAIR = lambda x: dist.LogNormal(jnp.zeros((len(x), 2)), 1.0).to_event(1)
MIX = lambda p: dist.MixtureSameFamily(dist.Categorical(p), dist.Normal(jnp.zeros(2), jnp.ones(2)))


class Law(StateSpaceModel):
    """Standard normal moves; one of the laws is given."""

    start: Any = static(default=lambda: dist.Normal(0.0, 1.0))
    move: Any = static(default=lambda x: dist.Normal(x, 1.0))
    see: Any = static(default=lambda x: dist.Normal(x, 1.0))

    def initial(self):
        return self.start()

    def transition(self, t, x_prev):
        return self.move(x_prev)

    def observation(self, t, x):
        return self.see(x)


@pytest.mark.parametrize(
    ("law", "message"),
    [
        ({"start": lambda: dist.Normal(0.0, -1.0)}, r"scale of Normal in initial\(\)=-1.0 .* > 0"),
        ({"move": lambda x: dist.Normal(0.9 * x, -2.0)}, r"scale of Normal in transition\(t, x_prev\)=-2"),
        ({"see": lambda x: dist.Normal(x, jnp.float32(0))}, r"scale of Normal in observation\(t, x\)=0"),
        ({"see": lambda x: dist.Normal(0.0, np.nan)}, r"scale of Normal in observation\(t, x\)=nan"),
        ({"see": lambda x: dist.Normal(x + jnp.nan, 1.0)}, r"loc of Normal in observation.*finite"),
        ({"see": lambda x: dist.StudentT(-3.0, x, 1.0).mask(True)}, r"df of StudentT in observation"),
        ({"see": lambda x: MIX(jnp.array([0.7, 0.7]))}, r"probs of CategoricalProbs.*of sum 1"),
        ({"see": lambda x: dist.Bernoulli(1.5 + 0 * x)}, r"probs of BernoulliProbs.*\[0, 1\]"),
    ],
)  # fmt: skip
def test_a_law_that_is_none_at_these_parameters(law, message):
    with pytest.raises(InvalidArgument, match=message):
        Bootstrap(Law(**law), np.zeros(3, np.float32))


def test_vectors_and_variables_are_looked_into():
    """A component, a covariance that is not positive, and an entry that depends on another."""
    pair = lambda x: dist.Normal(jnp.zeros(2), jnp.array([1.0, -1.0])).to_event(1)
    with pytest.raises(InvalidArgument, match="scale of Normal in observation"):
        Bootstrap(Law(see=pair), np.zeros((5, 2)))
    flat = lambda x: dist.MultivariateNormal(jnp.zeros(2), covariance_matrix=-jnp.eye(2))
    with pytest.raises(InvalidArgument, match="scale_tril of MultivariateNormal in observation"):
        Bootstrap(Law(see=flat), np.zeros((5, 2)))
    both = lambda x: {
        "a": dist.Normal(x, 1.0),
        "b": lambda new: dist.Normal(new["a"], -1.0),
    }
    with pytest.raises(InvalidArgument, match=r"scale of Normal in observation\(t, x\)\['b'\]"):
        Bootstrap(Law(see=both), {"a": Y, "b": Y})
    with pytest.raises(InvalidArgument, match="scale of Normal in transition"):
        Law(move=lambda x: dist.Normal(x, -1.0)).simulate(0, 3)


@pytest.mark.slow
def test_a_deterministic_coordinate():
    """`x_t = .5 x_{t-1} + .2 x_{t-2} + e_t` as two coordinates, of which one only moves on: Z of a normal vector."""
    companion = Law(
        start=lambda: dist.Normal(jnp.zeros(2), 1.0).to_event(1),
        move=lambda x: dist.Normal(x @ jnp.array(A.T), jnp.array([1.0, 0.0])).to_event(1),
        see=lambda x: dist.Normal(x[:, 0], 0.7),
    )
    rows, last = [np.eye(2, 5)[0]], np.eye(2, 5)  # of x_0 and e_1..e_3, in each time's state
    for t in range(1, len(Y)):
        last = A @ last + np.outer([1, 0], np.eye(5)[t + 1])
        rows.append(last[0])
    cov = np.array(rows) @ np.array(rows).T + 0.49 * np.eye(len(Y))
    keys = jax.random.split(jax.random.key(0), 3000)
    log_z = jax.vmap(lambda key: smcgen.smc(Bootstrap(companion, Y), key, 16).log_evidence)(keys)
    exact = stats.multivariate_normal(np.zeros(len(Y)), cov).logpdf(Y)
    assert_unbiased(np.exp(np.asarray(log_z, np.float64) - exact), 1.0)


def test_what_may_be_meant_is_let_pass():
    """An impossible state, probabilities that are rounded, a model that is traced."""
    never = lambda: dist.Categorical(logits=jnp.log(jnp.array([1.0, 0.0])))
    third = lambda x: dist.Categorical(probs=0.3333 * jnp.ones((len(x), 3)))
    Bootstrap(Law(start=never, move=lambda x: never(), see=third), np.array([0, 2, 1]))
    jax.jit(lambda sigma: smcgen.smc(Bootstrap(Volatility(sigma=sigma), Y), 0, 4).status)(-1.0)


@pytest.mark.parametrize(
    ("see", "y", "message"),
    [
        (lambda x: dist.Normal(x, 1.0), [0.0, np.nan, np.inf], r"y\[2\]=inf .* finite number"),
        (lambda x: dist.Exponential(jnp.exp(x)), [1.0, -2.0], r"y\[1\]=-2.0 .* observation\(t, x\) can give"),
        (lambda x: dist.Poisson(jnp.exp(x)), [3, -1, 2], r"y\[1\]=-1 "),
        (lambda x: dist.Categorical(logits=jnp.zeros((len(x), 3))), [0, 3, 2], r"y\[1\]=3 "),
        (PAIR, [[1, 1], [np.nan, -1], [1, 1]], r"y\[1, 1\]=-1"),
    ],
)  # fmt: skip
def test_observations_that_cannot_be(see, y, message):
    with pytest.raises(InvalidArgument, match=message):
        Bootstrap(Law(see=see), np.asarray(y))


@pytest.mark.parametrize("shape", [(5, 1), (5, 2), (3, 3), (1, 1)])
def test_a_column_is_not_taken_for_many_series(shape):
    y = np.zeros(shape, np.float32)
    for form in (Bootstrap, Guided, fully_adapted):
        with pytest.raises(InvalidArgument, match=rf"y='shape \({shape[0]}, .*several=True"):
            form(Law(), y)
    assert Bootstrap(Law(), y, several=True).num_problems == shape[0]


def test_several_series_when_one_is_meant():
    assert Bootstrap(Law(), np.zeros((2, 5))).num_problems == 2
    assert Bootstrap(Law(), Y, several=False).num_problems is None
    with pytest.raises(InvalidArgument, match=r"\(times, ...\) with several=False"):
        Bootstrap(Law(), np.zeros((2, 5)), several=False)
    with pytest.raises(InvalidArgument, match=r"\(series, times, ...\) with several=True"):
        Bootstrap(Law(), Y, several=True)
