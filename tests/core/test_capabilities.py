"""What a model can do beyond the required methods: what its class overrides, and nothing by accident."""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen.core.resolve import resolve
from smcgen.errors import ModelError
from tests.core.models import Host, gaussian

OPTIONAL = ("done", "record", "particles", "cost", "describe", "close", "checkpointing")


class Duck:
    """A model by its methods alone; the rest is its own business, under names that we use too."""

    num_steps = 2

    def __init__(self, traceable=True):
        self.traceable = traceable

    def init(self, key, n):
        return jnp.arange(n), jnp.zeros(n)

    def step(self, key, t, x):
        return x, jnp.zeros(x.shape)

    def cost(self, control, temperature):
        raise AssertionError("a cost of control, not of the run")

    def done(self):
        raise AssertionError("not about a state")

    close = record = particles = describe = fingerprint = dump = load = done


class Declared(smcgen.FeynmanKac):
    """A model that says what it can do."""

    num_steps, traceable = 2, False

    def __init__(self):
        self.closed = []

    def init(self, key, n):
        return np.arange(n), np.zeros(n)

    def step(self, key, t, x):
        return x, np.full(x.shape, -np.inf if t == 2 else 0.0)

    def record(self, state):
        return {"twice": 2 * state}

    def particles(self, state):
        return state + 100

    def cost(self, state):
        return smcgen.Cost(tokens_generated=7)

    def describe(self, state, problem, particle):
        return f"<{particle}>"

    def close(self, state):
        self.closed.append(len(state))


@pytest.mark.slow
@pytest.mark.parametrize("traceable", [True, False])
def test_a_duck_typed_model_is_asked_for_the_required_methods_only(traceable, tmp_path):
    model = Duck(traceable)
    assert all(getattr(resolve(model), name) is None for name in OPTIONAL)
    options = {"keep": "particles", "ess_threshold": 1.0}
    run = smcgen.smc(model, 0, 4, **options)
    np.testing.assert_array_equal(run.history[0], np.arange(4))
    assert run.cost.nfe == 4 * 3
    saved = smcgen.smc(model, 0, 4, checkpoint=tmp_path / "run", **options)
    np.testing.assert_array_equal(saved.particles, run.particles)


def test_what_a_class_overrides_is_used():
    model = Declared()
    run = smcgen.smc(model, 0, 4, keep="particles", on_error="return")
    np.testing.assert_array_equal(run.history[-1]["twice"], 2 * np.arange(4))
    np.testing.assert_array_equal(run.particles, np.arange(4) + 100)
    assert run.cost == smcgen.Cost(tokens_generated=7)
    assert model.closed == [4]
    with pytest.raises(smcgen.SMCError, match=": <0>"):
        smcgen.smc(model, 0, 4)


def test_what_is_not_overridden_has_a_default():
    assert all(getattr(resolve(gaussian()), name) is None for name in OPTIONAL)
    model, state = Host(gaussian()), np.arange(3)
    assert not smcgen.FeynmanKac.done(model, state)
    assert model.record(state) is model.particles(state) is state
    assert model.cost(state) is model.close(state) is None
    assert model.describe(state, 0, 0) == ""


def test_data_that_is_named_like_a_capability_is_data():
    class Named(smcgen.FeynmanKac):
        num_steps, cost, record, particles, done, close = 1, 3.0, None, 100, False, "no"

        def init(self, key, n):
            return jnp.zeros(n), jnp.zeros(n)

        def step(self, key, t, x):
            return x, jnp.zeros(x.shape)

    for model in (Named(), Host(Named())):
        assert smcgen.smc(model, 0, 4, keep="particles").ok


def test_an_attribute_of_the_object_is_not_a_capability():
    """Also one that could be called: a class says what its objects can do."""

    @jax.tree_util.register_dataclass
    @dataclass
    class Controlled(Declared):
        level: Any = 1.0

        def __post_init__(self):
            super().__init__()
            self.done = lambda: 1 / 0

    assert resolve(Controlled()).done is None
    assert resolve(Controlled()).record is not None


def test_half_of_checkpointing_is_an_error():
    class Half(Declared):
        def dump(self, state):
            return {"x": state}

    with pytest.raises(ModelError, match="Half overrides dump and not fingerprint, load;"):
        smcgen.smc(Half(), 0, 4)


def test_a_model_without_its_required_methods_cannot_be_made():
    class NoStep(smcgen.FeynmanKac):
        num_steps = 1

        def init(self, key, n):
            return jnp.zeros(n), jnp.zeros(n)

    with pytest.raises(TypeError, match="abstract method '?step"):
        NoStep()
