"""What goes wrong, said clearly: bad arguments, bad models, bad potentials, and Ctrl-C."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen import SMCError, SMCInterrupted, Status
from smcgen.errors import InvalidArgument, ModelError, UnknownName
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


class Fails(smcgen.FeynmanKac):
    """log G is `value` for one particle, or for all, at one time."""

    num_steps = 3
    traceable = False

    def __init__(self, value, at=2, particle=None):
        self.value, self.at, self.particle = value, at, particle

    def init(self, key, n):
        return np.zeros(n), self.log_g(0, n)

    def step(self, key, t, state):
        return state + 1, self.log_g(t, len(state))

    def log_g(self, t, n):
        log_g = np.zeros(n)
        if t == self.at:
            log_g[slice(None) if self.particle is None else self.particle] = self.value
        return log_g

    def describe(self, state, problem, particle):
        return f"<a particle after {int(state[particle])} steps>"


@pytest.mark.parametrize("n", [0, -1, 1.5, True, "8", None])
def test_number_of_particles(n, unchecked):
    with pytest.raises(InvalidArgument, match="n_particles=.* is not allowed: .* integer >= 1"):
        smcgen.smc(gaussian(), 0, n)


@pytest.mark.parametrize("threshold", [-0.1, 1.01, np.nan, "half", None])
def test_threshold(threshold, unchecked):
    with pytest.raises(InvalidArgument, match=r"ess_threshold=.* \[0, 1\]"):
        smcgen.smc(gaussian(), 0, 4, ess_threshold=threshold)


def test_names(unchecked):
    with pytest.raises(UnknownName, match="resampling='best'.*'killing', .*'systematic'"):
        smcgen.smc(gaussian(), 0, 4, resampling="best")
    with pytest.raises(InvalidArgument, match="on_error='ignore'"):
        smcgen.smc(gaussian(), 0, 4, on_error="ignore")


@pytest.mark.parametrize(
    "key", [None, "seed", 1.5, True, jnp.zeros(2), jnp.zeros(3, jnp.uint32), np.True_, 2**200]
)
def test_key(key, unchecked):
    with pytest.raises(InvalidArgument, match="key=.* a JAX key or an integer seed"):
        smcgen.smc(gaussian(), key, 4)


def test_keys_for_problems(unchecked):
    keys = jax.random.split(jax.random.key(0), 2)
    with pytest.raises(InvalidArgument, match="one key"):
        smcgen.smc(gaussian(), keys, 4)
    with pytest.raises(InvalidArgument, match="one key, or one for each of 3 problems"):
        smcgen.smc(Problems(stack([chain(i) for i in range(3)])), keys, 4)


def test_a_model_must_be_one(unchecked):
    class Nothing:
        pass

    with pytest.raises(ModelError, match=r"Nothing .* lacks init, step, num_steps \(an int\)"):
        smcgen.smc(Nothing(), 0, 4)

    class NoStep:
        num_steps = 2
        step = "not a method"

        def init(self, key, n):
            return jnp.zeros(n), jnp.zeros(n)

    with pytest.raises(ModelError, match="NoStep .* lacks step;"):
        smcgen.smc(NoStep(), 0, 4)


@pytest.mark.parametrize("traceable", [True, False])
@pytest.mark.parametrize("where", ["init", "step"])
@pytest.mark.parametrize("shape", [(), (5,), (4, 1)])
def test_shape_of_log_g(where, shape, traceable):
    class Shapes(smcgen.FeynmanKac):
        num_steps = 1

        def init(self, key, n):
            return jnp.zeros(n), jnp.zeros(shape if where == "init" else n)

        def step(self, key, t, state):
            return state, jnp.zeros(shape)

    Shapes.traceable = traceable
    expected = rf"log G of {where} has shape {shape}; expected (4,)".replace("(", r"\(").replace(
        ")", r"\)"
    )
    with pytest.raises(ModelError, match=expected):
        smcgen.smc(Shapes(), 0, 4)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("at", [0, 2])
def test_a_potential_that_is_not_finite(value, at):
    with pytest.raises(SMCError) as caught:
        smcgen.smc(Fails(value, at, particle=3), 0, 5)
    message, result = str(caught.value), caught.value.result
    assert f"NaN or +inf at step {at}, for particle number 3" in message
    assert f": <a particle after {at} steps>" in message
    assert "error.result" in message
    assert (result.status, result.status_step, result.status_particle) == (2, at, 3)
    assert np.isnan(result.log_evidence)
    assert not result.ok
    assert result.num_steps == at
    assert np.isfinite(result.log_weights).all()


@pytest.mark.parametrize("at", [0, 2, 3])
def test_all_weights_zero(at):
    with pytest.raises(
        SMCError, match=f"all weights are zero at step {at}: no particle is possible"
    ) as caught:
        smcgen.smc(Fails(-np.inf, at), 0, 5)
    result = caught.value.result
    assert (result.status, result.status_step) == (Status.ALL_WEIGHTS_ZERO, at)
    assert result.log_evidence == -np.inf
    assert result.log_evidence_increments.sum() == -np.inf
    same = smcgen.smc(Fails(-np.inf, at), 0, 5, on_error="return")
    np.testing.assert_array_equal(same.log_weights, result.log_weights)


@pytest.mark.slow
def test_a_traced_run_fails_in_the_same_words():
    dead = gaussian(y=(0.5, 1.5, np.inf, 0.4, 1.0))
    with pytest.raises(SMCError, match="all weights are zero at step 2") as caught:
        smcgen.smc(dead, 0, **OPTIONS)
    assert caught.value.result.num_steps == 4
    # inside a transformation there is no raising: the status says it
    status = jax.jit(lambda key: smcgen.smc(dead, key, **OPTIONS).status)(jax.random.key(0))
    assert status == Status.ALL_WEIGHTS_ZERO


@pytest.mark.parametrize("driver", [lambda m: m, Host], ids=["traced", "host"])
def test_one_failing_problem_does_not_harm_the_others(driver):
    chains = three_chains()
    fine = smcgen.smc(driver(Problems(chains)), 1, **OPTIONS)
    for value, status in ((-jnp.inf, 1), (jnp.nan, 2)):
        log_g = chains.log_g.at[1, 2].set(value)
        broken = type(chains)(chains.log_start, chains.log_move, log_g)
        with pytest.raises(SMCError, match="at step 2 of problem 1") as caught:
            smcgen.smc(driver(Problems(broken)), 1, **OPTIONS)
        result = caught.value.result
        np.testing.assert_array_equal(result.status, [0, status, 0])
        assert result.num_steps == 4
        for b in (0, 2):
            np.testing.assert_array_equal(result.ancestors[:, b], fine.ancestors[:, b])
            np.testing.assert_allclose(result.log_evidence[b], fine.log_evidence[b], rtol=1e-6)
            np.testing.assert_allclose(result.log_weights[b], fine.log_weights[b], rtol=1e-6)
        # the failed one stands still: what its increments say is what its evidence says
        assert not np.asarray(result.resampled)[2:, 1].any()
        np.testing.assert_array_equal(
            np.asarray(result.log_evidence_increments)[:, 1].sum(), result.log_evidence[1]
        )


def test_several_failing_problems_are_listed():
    chains = three_chains()
    log_g = chains.log_g.at[jnp.array([0, 2]), 1].set(-jnp.inf)
    broken = type(chains)(chains.log_start, chains.log_move, log_g)
    with pytest.raises(SMCError, match=r"2 of 3 problems failed: \[0, 2\]"):
        smcgen.smc(Problems(broken), 0, **OPTIONS)


def test_a_failed_problem_stays_as_it_failed():
    """A NaN after the weights have died does not turn log 0 into NaN."""
    chains = three_chains()
    log_g = chains.log_g.at[0, 1].set(-jnp.inf).at[0, 2].set(jnp.nan)
    broken = type(chains)(chains.log_start, chains.log_move, log_g)
    result = smcgen.smc(Problems(broken), 0, on_error="return", **OPTIONS)
    assert result.status[0] == Status.ALL_WEIGHTS_ZERO
    assert result.log_evidence[0] == -np.inf
    assert np.asarray(result.log_evidence_increments)[:, 0].sum() == -np.inf


def interrupted_at(step, problems=False):
    """A host model and the same with a Ctrl-C in one step."""
    chains = stack([chain(i, steps=4) for i in range(2)])
    ending = EndingProblems(chains, jnp.asarray([1, 4]))
    model = Host(ending if problems else chain(0, steps=4))
    stops = Host(model.model)

    def interrupt(key, t, state):
        if t == step:
            raise KeyboardInterrupt
        return model.step(key, t, state)

    stops.step = interrupt
    return model, stops


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 3])
def test_interrupt_keeps_the_run_so_far(step):
    model, stops = interrupted_at(step)
    whole = smcgen.smc(model, 0, 6, ess_threshold=1)
    with pytest.raises(KeyboardInterrupt) as caught:
        smcgen.smc(stops, 0, 6, ess_threshold=1)
    assert isinstance(caught.value, SMCInterrupted)
    assert f"interrupted after step {step - 1} of 4" in str(caught.value)
    for result in (
        caught.value.result,
        smcgen.smc(stops, 0, 6, ess_threshold=1, on_error="return"),
    ):
        assert result.num_steps == step - 1
        assert result.status == Status.INTERRUPTED
        np.testing.assert_array_equal(result.ancestors, whole.ancestors[: step - 1])
        np.testing.assert_allclose(
            result.log_evidence, np.sum(whole.log_evidence_increments[:step]), rtol=1e-5
        )
        assert "INTERRUPTED" in repr(result)


@pytest.mark.slow
def test_interrupt_leaves_a_finished_problem_its_status():
    _, stops = interrupted_at(2, problems=True)
    result = smcgen.smc(stops, 0, 6, on_error="return")
    np.testing.assert_array_equal(result.status, [Status.OK, Status.INTERRUPTED])
    assert result.num_steps == 1


def test_interrupt_before_there_is_anything(unchecked):
    class Stops(Fails):
        def init(self, key, n):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        smcgen.smc(Stops(0.0), 0, 4)
    assert not isinstance(caught.value, SMCInterrupted)


def test_an_error_of_ours_in_a_step_has_the_run_before_it():
    class Raises(Fails):
        def step(self, key, t, state):
            if t == 3:
                raise smcgen.SmcgenError("the engine is gone")
            return super().step(key, t, state)

    with pytest.raises(smcgen.SmcgenError, match="the engine is gone") as caught:
        smcgen.smc(Raises(0.0, at=9), 0, 4)
    assert caught.value.result.num_steps == 2
    assert "at step 3" in caught.value.__notes__[0]


def test_a_state_is_closed_however_the_run_ends():
    closed = []

    class Closes(Fails):
        def close(self, state):
            closed.append(int(state[0]))

    smcgen.smc(Closes(0.0), 0, 4)
    with pytest.raises(SMCError):
        smcgen.smc(Closes(np.nan), 0, 4)
    assert closed == [3, 2]


@pytest.mark.slow
def test_one_particle():
    """Importance sampling with one draw: the weight is 1, the evidence its potentials."""
    for model in (gaussian(), Host(gaussian())):
        run = smcgen.smc(model, 0, 1, ess_threshold=1, keep="particles")
        np.testing.assert_array_equal(run.ancestors, 0)
        np.testing.assert_allclose(run.ess, 1.0, rtol=1e-6)
        path = np.asarray(run.trajectories())[:, 0]
        log_g = [float(gaussian()._log_g(t, x)) for t, x in enumerate(path)]
        np.testing.assert_allclose(run.log_evidence, sum(log_g), rtol=1e-5)
        assert run.log_evidence_stderr == 1


@pytest.mark.slow
def test_a_particle_of_weight_zero_may_have_any_potential():
    """Whether it is resampled away before or not must not decide whether the run fails."""

    class Half(smcgen.FeynmanKac):
        num_steps = 2

        def init(self, key, n):
            x = jax.random.normal(key, (n,))
            return x, jnp.where(x > 0, 0.0, -jnp.inf)

        def step(self, key, t, x):
            return x, jnp.log(x)  # NaN where x < 0, which has weight zero already

    for threshold in (0.0, 1.0):
        assert smcgen.smc(Half(), 0, 64, ess_threshold=threshold).ok
