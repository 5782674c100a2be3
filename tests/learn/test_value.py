"""Twists from experience: the right regression, and runs that can be learned from."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen

import smcgen
from smcgen.errors import InvalidArgument, ModelError, UnknownName
from smcgen.learn import Lookahead, fit_twist, log_returns
from tests.learn.models import linear


class Small(linen.Module):
    """One hidden layer."""

    out: int = 1

    @linen.compact
    def __call__(self, x):
        return linen.Dense(self.out)(linen.tanh(linen.Dense(16)(x)))


@pytest.mark.slow
def test_returns_are_the_potentials_to_come():
    model = linear(1, steps=3)
    run = smcgen.smc(model, 0, 50, ess_threshold=0, keep="particles")
    x = run.history
    log_g = jnp.stack([model.log_g(t, None, x[t]) for t in range(4)])
    expected = jnp.cumsum(log_g[::-1], axis=0)[::-1] - log_g
    np.testing.assert_allclose(log_returns(run), expected, atol=1e-4)
    with pytest.raises(InvalidArgument, match="resampled"):
        log_returns(smcgen.smc(model, 0, 50, ess_threshold=1, keep="particles"))
    with pytest.raises(InvalidArgument, match="keep"):
        log_returns(smcgen.smc(model, 0, 50, ess_threshold=0))


@pytest.mark.slow
def test_a_twist_learned_from_runs_is_the_expected_return():
    """Against `log M_1(G_1)` in closed form; the mean of log-returns is another function, and too low."""
    model = linear(1, steps=1)
    run = smcgen.smc(model, 0, 20_000, ess_threshold=0, keep="particles")
    x, r = run.history[0], log_returns(run)[0]
    found = {
        kind: fit_twist(x, r, Small(), loss=kind, steps=1500) for kind in ("poisson", "squared")
    }
    grid = jnp.linspace(-1.5, 1.5, 21)[:, None]
    _, exact = model.own_twist().tilt(1, model.transition(1, grid))
    off = {kind: np.asarray(twist(grid) - exact) for kind, twist in found.items()}
    assert np.abs(off["poisson"]).mean() < 0.1
    assert off["squared"].mean() < -0.3
    ahead = Lookahead(model, lambda t, x: found["poisson"](x))
    np.testing.assert_allclose(smcgen.smc(ahead, 0, 5000).log_evidence, model.kalman(), atol=0.05)
    assert repr(found["poisson"]).startswith("LearnedTwist(Small, Fit(")


def test_bad_experience_is_said(unchecked):
    x, r = np.zeros((4, 2)), np.zeros(4)
    for records, returns, options, error, message in (
        (x, np.zeros(3), {}, InvalidArgument, r"one for each record: \(4,\)"),
        (x, np.array([0, 0, np.nan, 0]), {}, InvalidArgument, "nan at 2"),
        (x, np.array([0, -np.inf, 0, 0]), {"loss": "squared"}, InvalidArgument, "-inf at 1"),
        (x, np.full(4, -np.inf), {}, InvalidArgument, "all 0"),
        (x + np.inf, r, {}, InvalidArgument, "records"),
        (np.array(["a"] * 4), r, {}, InvalidArgument, "records"),
        (x, r, {"loss": "cubic"}, UnknownName, "'poisson', 'squared'"),
        (x, r, {"module": Small(out=3)}, ModelError, r"gives shape \(2, 3\) for 2 rows"),
    ):
        with pytest.raises(error, match=message):
            fit_twist(records, returns, **{"module": Small(), **options})
