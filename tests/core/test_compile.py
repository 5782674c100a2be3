"""What is kept of compiled programs: bounded, and nothing of a model that is gone."""

import gc
import weakref

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen.core import compile as compiling


class Fresh(smcgen.FeynmanKac):
    """A plain object with arrays, a function of itself and a cycle."""

    num_steps = 1

    def __init__(self, level=0.0):
        self.table = jnp.full(7, level)
        self.numpy = np.ones(3)
        self.function = lambda x: self.table[0] + 0 * x
        self.method, self.parts = self.init, {"own": [self]}

    def init(self, key, n):
        return jnp.zeros(n), self.function(jnp.zeros(n))

    def step(self, key, t, x):
        return x, self.function(x) * self.numpy[0]


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"callback": lambda p: None}], ids=["traced", "host"])
def test_a_dropped_model_is_freed(options):
    model = Fresh()
    smcgen.smc(model, 0, 4, **options)
    freed = weakref.ref(model)
    del model
    gc.collect()
    assert freed() is None


@pytest.mark.slow
def test_the_constants_of_a_dropped_model_are_freed_at_the_next_run():
    model, other = Fresh(), Fresh()
    smcgen.smc(model, 0, 4)
    table = weakref.ref(model.table)
    del model
    gc.collect()
    smcgen.smc(other, 0, 4)
    gc.collect()
    assert table() is None


@pytest.mark.slow
def test_what_is_kept_is_bounded(monkeypatch):
    monkeypatch.setattr(compiling, "_KEPT", 3)
    models = [Fresh(float(i)) for i in range(6)]
    runs = [compiling.jitted(_level, model) for model in models]
    assert [float(run(1.0)) for run in runs] == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    assert len(compiling._programs) == 3
    again = compiling.jitted(_level, models[-1])
    assert again.func is runs[-1].func, "the latest are not compiled again"
    assert compiling.jitted(_level, models[0]).func is not runs[0].func
    assert len(compiling._programs) == 3


def _level(model, x):
    return model.table[0] + x


@pytest.mark.slow
def test_a_new_object_at_an_old_address_is_another_program():
    """The id of a dropped model is used again; what was compiled for it must not be."""
    old, new = Fresh(), Fresh()
    key, other = compiling.Frozen(old), compiling.Frozen(new)
    del old
    gc.collect()
    key._id = other._id  # as if `new` lay where `old` lay
    assert hash(key) == hash(other)
    assert key != other
    assert {key: "stale"}.get(other) is None


def test_objects_without_weak_references_work():
    class Slots:
        __slots__ = ("level",)
        num_steps = 0

        def __init__(self, level):
            self.level = level

        def init(self, key, n):
            return jnp.zeros(n), jnp.full(n, self.level)

        def step(self, key, t, x):
            return x, jnp.zeros(x.shape)

    for level in (1.0, 2.0):
        np.testing.assert_allclose(smcgen.smc(Slots(level), 0, 4).log_evidence, level, rtol=1e-6)


@pytest.mark.slow
def test_none_is_not_an_attribute_that_is_gone():
    """A weak reference to what is gone says None, which is also a value."""

    class Holder:
        pass

    holder = Holder()
    holder.held = Holder()
    before = compiling.Frozen(holder)
    holder.held = None
    gc.collect()
    assert before != compiling.Frozen(holder)
    assert compiling.Frozen(holder) == compiling.Frozen(holder)
    assert jax.tree.structure(holder).num_leaves == 1
