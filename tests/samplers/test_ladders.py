"""Ladders keep what they promise of the weights, and end at the end."""

import jax.numpy as jnp
import numpy as np
import pytest

from smcgen.core import weights
from smcgen.errors import InvalidArgument, UnknownName
from smcgen.samplers import Adaptive, Given
from smcgen.samplers.base import power
from smcgen.samplers.ladders import farthest, resolve
from tests.samplers.models import LINEAR
from tests.samplers.test_paths import DATA

RNG = np.random.default_rng(0)
LOG_L = jnp.asarray(-40 * RNG.normal(size=1000) ** 2, jnp.float32)
UNEVEN = jnp.asarray(np.log(RNG.uniform(0.5, 1, 1000)), jnp.float32)


def after(ladder, at, log_l, log_w, t=1):
    at = jnp.float32(at)
    return ladder.next(t, at, jnp.float32(1), lambda to: power(log_l, to - at), log_w)


@pytest.mark.slow
@pytest.mark.parametrize("at", [0.0, 0.01])
def test_ess_and_conditional_ess(at):
    to = after(Adaptive(0.5), at, LOG_L, UNEVEN)
    assert at < to < 1
    ess = lambda log_w: float(weights.ess(log_w))
    assert ess(UNEVEN + (to - at) * LOG_L) / ess(UNEVEN) == pytest.approx(0.5, abs=1e-3)
    to = after(Adaptive(0.9, "cess"), at, LOG_L, UNEVEN)
    w, g = np.exp(np.asarray(UNEVEN, float)), np.exp(float(to - at) * np.asarray(LOG_L, float))
    assert (w @ g) ** 2 / ((w @ g**2) * w.sum()) == pytest.approx(0.9, abs=1e-3)


def test_the_two_measures_agree_on_even_weights():
    even = jnp.zeros(1000)
    pair = [after(Adaptive(0.7, measure), 0.0, LOG_L, even) for measure in ("ess", "cess")]
    np.testing.assert_allclose(*pair, rtol=1e-4)


@pytest.mark.slow
def test_the_end_is_reached_exactly():
    assert after(Adaptive(0.5), 0.0, 1e-3 * LOG_L, UNEVEN) == 1.0  # weights hardly change
    assert after(Adaptive(0.5), 0.0, jnp.full(1000, -3e4), UNEVEN) == 1.0
    assert (
        after(Adaptive(0.5, max_steps=7), 0.0, LOG_L, UNEVEN, t=6) == 1.0
    )  # the last step allowed
    assert after(Adaptive(0.5), 1.0, LOG_L, UNEVEN) == 1.0


def test_impossible_particles_do_not_stop_the_ladder():
    """Nine tenths of the prior are impossible: what is kept is half of the rest."""
    log_l = jnp.where(jnp.arange(1000) % 10 == 0, LOG_L, -jnp.inf)
    to = after(Adaptive(0.5), 0.0, log_l, jnp.zeros(1000))
    assert float(weights.ess(to * log_l)) == pytest.approx(50, abs=0.1)
    assert after(Adaptive(0.5), 0.0, jnp.full(1000, -jnp.inf), UNEVEN) > 0


def test_positions_of_any_size_and_progress_in_spite_of_rounding():
    assert after(Adaptive(0.5), 0.0, 1e9 * LOG_L, UNEVEN) > 0
    allowed = lambda limit: lambda to: to <= limit
    assert farthest(allowed(3e-12), jnp.float32(0), 1.0) == pytest.approx(3e-12, rel=1e-3)
    to = farthest(allowed(0.5), jnp.float32(0.5), 1.0)  # nothing beyond is allowed
    assert to == np.nextafter(np.float32(0.5), np.float32(1))


def test_given_positions():
    ladder = resolve([0.0, 0.2, 1.0], LINEAR)  # the start may be named
    assert isinstance(ladder, Given)
    assert ladder.max_steps == 2
    assert [
        float(ladder.next(t, None, None, lambda to: to, None)) for t in range(3)
    ] == pytest.approx([0.2, 1, 1])
    assert [float(ladder.at(t, None)) for t in (1, 2)] == pytest.approx([0.2, 1.0])
    np.testing.assert_array_equal(resolve(None, DATA).positions, [1, 2, 3])
    np.testing.assert_array_equal(resolve((2, 3), DATA).positions, [2, 3])


@pytest.mark.parametrize(
    "positions",
    [[0.5, 0.2, 1.0], [0.2, 0.8], [0.5, 1.2], [], [-0.1, 1.0], [[0.5], [1.0]], [0.5, np.nan, 1.0]],
)
def test_positions_that_are_no_ladder(positions):
    with pytest.raises(
        InvalidArgument, match=r"ladder=.* increasing positions from above 0.0 to 1.0"
    ):
        resolve(positions, LINEAR)


def test_ladders_by_name():
    assert resolve(None, LINEAR) == resolve("ess", LINEAR) == Adaptive(0.5)
    assert resolve("cess", LINEAR) == Adaptive(0.9, "cess")
    with pytest.raises(UnknownName, match="'cess', 'ess'"):
        resolve("kl", LINEAR)
    with pytest.raises(InvalidArgument, match="this path is a sequence"):
        resolve("ess", DATA)


def test_wrong_numbers(unchecked):
    for wrong in ({"keep": 1.0}, {"keep": 0}, {"max_steps": 0}):
        with pytest.raises(InvalidArgument):
            Adaptive(**wrong)
    with pytest.raises(UnknownName, match="'cess', 'ess'"):
        Adaptive(measure="kl")
