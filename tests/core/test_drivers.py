"""One algorithm, two drivers: a traced scan and a Python loop give the same run."""

import subprocess
import sys
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen.core.account import Carry, account, turn
from smcgen.core.arguments import settings_of
from smcgen.core.select import select
from tests.core.models import (
    OPTIONS,
    EndingProblems,
    Host,
    Problems,
    chain,
    gaussian,
    stack,
    three_chains,
)

CHAINS = three_chains()


def assert_same(a, b, steps=None):
    """Discrete parts equal, weights to rounding; `b` may have stopped early."""
    steps = b.num_steps if steps is None else steps
    for name in ("status", "founders"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), name)
    for name in ("resampled", "ancestors"):
        np.testing.assert_array_equal(np.asarray(getattr(a, name))[:steps], getattr(b, name), name)
    for name in ("ess", "log_evidence_increments"):
        expected = np.asarray(getattr(a, name))[: steps + 1]
        np.testing.assert_allclose(expected, getattr(b, name), rtol=1e-4, atol=1e-5, err_msg=name)
    for name in ("log_evidence", "log_weights"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), rtol=1e-4, atol=1e-5)
    for x, y in zip(jax.tree.leaves(a.particles), jax.tree.leaves(b.particles), strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5)


@pytest.mark.parametrize("scheme", ["systematic", pytest.param("killing", marks=pytest.mark.slow)])
def test_traced_and_host_agree(scheme):
    model = gaussian()
    options = {**OPTIONS, "resampling": scheme}
    traced = smcgen.smc(model, 5, **options)
    assert np.any(traced.resampled)
    assert_same(traced, smcgen.smc(Host(model), 5, **options))
    # a traceable model is driven from Python when somebody watches
    seen = []
    watched = smcgen.smc(model, 5, callback=seen.append, **options)
    assert_same(traced, watched)
    assert [p.t for p in seen] == [0, 1, 2, 3, 4]
    assert seen[-1].num_steps == 4
    np.testing.assert_allclose(seen[-1].log_evidence, traced.log_evidence, rtol=1e-5)
    np.testing.assert_allclose([p.ess for p in seen], traced.ess, rtol=1e-4)


@pytest.mark.parametrize("ends", [None, (4, 2, 0), (1, 0, 2)])
def test_traced_and_host_agree_with_problems_and_done_masks(ends):
    model = EndingProblems(CHAINS, jnp.asarray(ends)) if ends else Problems(CHAINS)
    traced = smcgen.smc(model, 2, **OPTIONS)
    host = smcgen.smc(Host(model), 2, **OPTIONS)
    assert_same(traced, host)
    if ends:
        assert host.num_steps == max(ends), "the host loop ends with the last problem"
        for b, end in enumerate(ends):
            assert not np.asarray(traced.resampled)[end:, b].any(), (
                "a finished problem is left alone"
            )
            np.testing.assert_allclose(traced.log_evidence_increments[end + 1 :, b], 0, atol=1e-6)


@pytest.mark.slow
def test_problems_are_independent():
    """A problem's run depends on its model and its key alone, not on its neighbours."""
    keys = jax.random.split(jax.random.key(3), 3)
    together = smcgen.smc(Problems(CHAINS), keys, **OPTIONS)
    assert np.asarray(together.resampled).any()
    for b in range(3):
        own = jax.tree.map(lambda x, b=b: x[b : b + 1], CHAINS)
        alone = smcgen.smc(Problems(own), keys[b : b + 1], **OPTIONS)
        np.testing.assert_array_equal(together.ancestors[:, b], alone.ancestors[:, 0])
        np.testing.assert_allclose(together.log_evidence[b], alone.log_evidence[0], rtol=1e-5)
    # and a single seed gives problem b a key of its own that more problems do not change
    seeded = smcgen.smc(Problems(CHAINS), 4, **OPTIONS)
    fewer = smcgen.smc(Problems(jax.tree.map(lambda x: x[:1], CHAINS)), 4, **OPTIONS)
    np.testing.assert_array_equal(seeded.ancestors[:, :1], fewer.ancestors)
    same = stack([chain(0, steps=4)] * 3)
    twins = smcgen.smc(Problems(same), 4, **OPTIONS)
    assert (np.asarray(twins.particles["x"][0]) != np.asarray(twins.particles["x"][1])).any()


@pytest.mark.slow
def test_one_problem_is_the_run_without_a_problem_axis():
    model = chain(0, steps=4, spread=2.0)
    key = jax.random.key(8)
    plain = smcgen.smc(model, key, **OPTIONS)
    boxed = smcgen.smc(Problems(stack([model])), key[None], **OPTIONS)
    np.testing.assert_array_equal(plain.ancestors, boxed.ancestors[:, 0])
    np.testing.assert_allclose(plain.log_evidence, boxed.log_evidence[0], rtol=1e-5)


@pytest.mark.slow
def test_vmapped_runs_are_the_single_runs():
    model = gaussian()
    keys = jax.random.split(jax.random.key(0), 3)
    run = lambda key: smcgen.smc(model, key, **OPTIONS)
    mapped = jax.jit(jax.vmap(run))(keys)
    for i, key in enumerate(keys):
        single = run(key)
        np.testing.assert_array_equal(mapped.ancestors[i], single.ancestors)
        np.testing.assert_allclose(mapped.log_evidence[i], single.log_evidence, rtol=1e-5)


def test_a_seed_and_its_key_are_one():
    model = gaussian()
    seed = smcgen.smc(model, 7, **OPTIONS)
    for key in (jax.random.key(7), jax.random.PRNGKey(7)):
        np.testing.assert_array_equal(smcgen.smc(model, key, **OPTIONS).particles, seed.particles)


def test_no_steps_at_all():
    model = chain(0, steps=0)
    for run in (smcgen.smc(model, 0, 6), smcgen.smc(Host(model), 0, 6)):
        assert run.num_steps == 0
        assert run.ancestors.shape == (0, 6)
        assert run.ess.shape == (1,)
        np.testing.assert_array_equal(run.founders, np.arange(6))


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Counted(smcgen.FeynmanKac):
    """A pytree model that counts how often it is traced."""

    scale: Any
    num_steps = 2
    traces: ClassVar[list[str]] = []

    def init(self, key, n):
        self.traces.append("init")
        x = self.scale * jax.random.normal(key, (n,))
        return x, -(x**2)

    def step(self, key, t, x):
        x = x + self.scale * jax.random.normal(key, x.shape)
        return x, -(x**2)


class Plain(smcgen.FeynmanKac):
    """The same, as an object that JAX knows nothing of."""

    num_steps = 2

    def __init__(self, scale, **more):
        self.scale = scale
        self.__dict__.update(more)

    def init(self, key, n):
        return Counted.init(self, key, n)

    def step(self, key, t, x):
        return Counted.step(self, key, t, x)

    @property
    def traces(self):
        return Counted.traces


@pytest.fixture
def traces():
    Counted.traces.clear()
    return Counted.traces


@pytest.mark.slow
def test_new_parameter_values_of_a_pytree_do_not_recompile(traces):
    results = [float(smcgen.smc(Counted(s), 0, 4).log_evidence) for s in (0.5, 1.0, 2.0)]
    assert len(traces) == 1
    assert len(set(results)) == 3
    smcgen.smc(Counted(1.0), 1, 4)
    assert len(traces) == 1
    smcgen.smc(Counted(1.0), 1, 5)
    assert len(traces) == 2


def test_two_classes_with_as_many_fields_are_two_programs():
    """Their tree structures compare equal in some versions of JAX."""

    @jax.tree_util.register_dataclass
    @dataclass(frozen=True)
    class Other(smcgen.FeynmanKac):
        level: Any
        num_steps = 1

        def init(self, key, n):
            return jnp.zeros(n), jnp.full(n, self.level)

        def step(self, key, t, x):
            return x, jnp.zeros(x.shape)

    assert smcgen.smc(Counted(1.0), 0, 4).num_steps == 2
    other = smcgen.smc(Other(1.0), 0, 4)
    assert other.num_steps == 1
    np.testing.assert_allclose(other.log_evidence, 1.0, rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [{}, {"callback": lambda progress: None}], ids=["traced", "host"]
)
def test_a_changed_attribute_is_not_stale(options, traces):
    """Also one that is changed in place: an array written to, an entry of a dictionary."""
    model = Plain(0.5, table=np.array([1.0, 2.0]), nested={"shift": 0.0})

    def step(key, t, x):
        return x, model.table[0] * -(x**2) + model.nested["shift"]

    model.step = step
    run = lambda: float(smcgen.smc(model, 0, 4, **options).log_evidence)
    first = run()
    model.scale = 1.0
    second = run()
    model.table[0] = 3.0
    third = run()
    model.nested["shift"] = 1.0
    fourth = run()
    assert len({first, second, third}) == 3
    np.testing.assert_allclose(fourth, third + 2.0, rtol=1e-5)
    model.scale, model.table[0], model.nested["shift"] = 0.5, 1.0, 0.0
    np.testing.assert_allclose(run(), first, rtol=1e-6)


@pytest.mark.slow
def test_an_unchanged_object_does_not_recompile(traces):
    model = Plain(0.5, table=np.array([1.0, 2.0]))
    for seed in range(3):
        smcgen.smc(model, seed, 4)
    assert len(traces) == 1


@pytest.mark.slow
def test_the_first_use_may_be_inside_jit():
    """`smcgen.smc` is imported when first used, and that may be while JAX traces."""
    code = """
import jax, smcgen
class Model:
    num_steps = 1
    def init(self, key, n):
        x = jax.random.normal(key, (n,))
        return x, -x**2
    def step(self, key, t, x):
        return x, -x**2
model = Model()
inside = jax.jit(lambda key: smcgen.smc(model, key, 10).log_evidence)(jax.random.key(0))
outside = smcgen.smc(model, 0, 10)
assert outside.cost is not None
assert abs(inside - outside.log_evidence) < 1e-5
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_numpy_state_on_the_host(unchecked):
    """A host model may keep numpy arrays in any structure; `take` indexes them all.

    Nor need it inherit from anything: what it lacks has a default.
    """

    class Walk:
        num_steps = 3
        traceable = False

        def init(self, key, n):
            rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
            return {"x": rng.normal(size=n), "path": np.zeros((n, 4))}, np.zeros(n)

        def step(self, key, t, state):
            rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
            path = state["path"].copy()
            path[:, t] = state["x"]
            return {"x": state["x"] + rng.normal(size=len(path)), "path": path}, -(state["x"] ** 2)

    run = smcgen.smc(Walk(), 0, 6, ess_threshold=1.0, keep="particles")
    assert isinstance(run.particles["x"], np.ndarray)
    assert run.particles["x"].dtype == np.float64
    # history travels with the particle: column t of the path is x at t - 1 along the lineage
    paths = run.trajectories()
    for t in (1, 2, 3):
        np.testing.assert_allclose(run.particles["path"][:, t], paths["x"][t - 1])
    assert jnp.isfinite(run.log_evidence)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Ending(smcgen.FeynmanKac):
    """Ends after `end` steps; counts the steps that were computed."""

    end: Any
    num_steps = 7
    computed: ClassVar[list[int]] = []

    def init(self, key, n):
        return {"x": jax.random.normal(key, (n,)), "t": jnp.zeros(n, int)}, jnp.zeros(n)

    def step(self, key, t, state):
        jax.debug.callback(lambda t: self.computed.append(int(t)), t)
        x = state["x"] + jax.random.normal(key, state["x"].shape)
        return {"x": x, "t": state["t"] + 1}, -(x**2)

    def done(self, state):
        return state["t"][0] >= self.end


@pytest.mark.slow
@pytest.mark.parametrize("keep", ["particles", "summary"])
def test_a_traced_run_computes_nothing_after_its_end(keep):
    """The other steps are free, and the result is that of the shorter run."""
    Ending.computed.clear()
    traced = smcgen.smc(Ending(jnp.int32(3)), 1, 6, keep=keep)
    jax.effects_barrier()
    assert sorted(Ending.computed) == [1, 2, 3]
    host = smcgen.smc(Host(Ending(jnp.int32(3))), 1, 6, keep="particles")
    np.testing.assert_array_equal(traced.particles["x"], host.particles["x"])
    np.testing.assert_allclose(traced.log_evidence, host.log_evidence, rtol=1e-5)
    np.testing.assert_array_equal(traced.ess[3:], traced.ess[3])
    assert not np.any(traced.resampled[3:])
    if keep == "particles":
        assert_same(traced, host)
        np.testing.assert_array_equal(traced.history["x"][-1], traced.history["x"][3])


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("shape", [(7,), (3, 16)])
def test_weights_and_the_next_selection_at_once_have_the_bits_of_one_after_the_other(shape, pinned):
    draws = np.random.default_rng(len(shape))
    zero, none = np.zeros(shape[:-1], np.float32), np.zeros(shape[:-1], np.int32)
    equal = np.full(shape, -np.log(shape[-1]), np.float32)
    own = np.broadcast_to(np.arange(shape[-1], dtype=np.int32), shape)
    keys = jax.random.key(0) if len(shape) == 1 else jax.random.split(jax.random.key(0), shape[0])
    resampler = settings_of(shape[-1], "systematic", 0.5, "summary").resampler
    fixed, on = none if pinned else None, np.ones(shape[:-1], bool)
    carry, ancestors, log_weights = Carry(None, equal, *[zero] * 3, own, *[none] * 3), own, equal
    resampled = []
    for t in range(30):
        log_g = 2 * draws.normal(size=shape).astype(np.float32)
        if t == 20:
            log_g[..., :1] = np.nan  # the run fails, or that of the first problem
            log_g[1:] = 0
        given = carry, ancestors, log_weights, log_g, t
        *both, chosen = turn(*given, keys, on, fixed, resampler)
        apart = account(*given)
        alive = np.asarray(apart[0].status) == 0
        new = select(keys, t + 1, apart[0].log_weights, apart[0].ess, on & alive, resampler, fixed)
        for x, y in zip(
            jax.tree.leaves((both, chosen._replace(propagate=None))),
            jax.tree.leaves((list(apart), new._replace(propagate=None))),
            strict=True,
        ):
            np.testing.assert_array_equal(x, y)
        assert (jax.random.key_data(chosen.propagate) == jax.random.key_data(new.propagate)).all()
        carry, ancestors, log_weights = both[0], chosen.ancestors, chosen.log_weights
        resampled.append(np.asarray(chosen.resampled).any())
    assert {*resampled} == {True, False}
    assert np.asarray(carry.status).any()
