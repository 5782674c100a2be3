"""Conditional SMC and refresh moves on masked paths leave their targets invariant, with two particles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen.core.backward import backward_lineages
from smcgen.diffusion import Difference, DiffusionModel, FunctionReward, ManyDraws, Masked
from smcgen.diffusion.masked.refresh import Dated, Refreshed
from smcgen.diffusion.state import DiffusionRecord
from tests.diffusion.exact import quick_jit
from tests.diffusion.masked import toy
from tests.laws import assert_law, assert_unbiased

torch = pytest.importorskip("torch")
from tests.diffusion.masked.test_steering import LAMBDA, reward, steered  # noqa: E402

RUNS = 4000


@pytest.fixture(scope="module")
def paths():
    """Exact draws of x_{0:T} from the target, by rejection of draws from the base law: a list of (RUNS, L)."""
    kernel = steered(None, runs=1).kernel
    rows, key = 60_000, jax.random.key(7)
    problem, x = np.zeros(rows, int), kernel.draw_prior(key, rows)
    path = [x]
    for t in range(1, toy.T + 1):
        prediction = kernel.predict(t - 1, x, problem, None)
        x = kernel.draw(jax.random.fold_in(key, t), t, x, prediction)
        path.append(x)
    log_w = LAMBDA * reward(x).double().numpy()
    top = LAMBDA * toy.REWARD[toy.OUTPUTS].max()
    kept = np.flatnonzero(np.log(np.random.default_rng(0).random(rows)) < log_w - top)[:RUNS]
    assert len(kept) == RUNS
    return [x[kept] for x in path]


def assert_paths(found, what):
    """The law of the outputs, and of the state in the middle, which the reward reweights too."""
    steps = toy.mdlm_steps()
    target = toy.exact(steps, LAMBDA)[2]
    assert_law(np.bincount(toy.code(found[-1]), minlength=256), target, f"{what}: outputs")
    half = np.eye(256)[toy.START] @ steps[0] @ steps[1]
    rest = steps[2] @ steps[3]
    ahead = np.where((toy.STATES != toy.MASK).all(1), np.exp(LAMBDA * toy.REWARD), 0)
    middle = half * (rest @ ahead)
    assert_law(
        np.bincount(toy.code(found[2]), minlength=256), middle / middle.sum(), f"{what}: x_2"
    )


@pytest.mark.slow
def test_the_starting_paths_are_draws_from_the_target(paths):
    assert_paths([x.numpy() for x in paths], "rejection")


@pytest.mark.slow
@pytest.mark.parametrize("ancestors", [False, True], ids=["plain", "ancestor-sampling"])
def test_conditional_smc_leaves_the_target_invariant(paths, ancestors):
    """One sweep with two particles from exact paths, once for each of 4000 problems."""
    model = steered(Difference(ManyDraws(2)))
    reference = [DiffusionRecord(x.numpy(), None, None, None) for x in paths]
    run = smcgen.conditional_smc(model, 3, reference, 2, ancestor_sampling=ancestors)
    chosen = run.path(run.sample(4)[:, 0])
    found = [np.asarray(record.x) for record in chosen]
    assert_paths(found, "swept")
    moved = [float(np.mean(toy.code(a) != toy.code(b))) for a, b in zip(found, paths, strict=True)]
    assert moved[-1] > 0.1


@pytest.mark.slow
def test_backward_sampling_leaves_the_target_invariant(paths):
    """In JAX: three sweeps of four particles from each exact path, each path drawn backward through its history."""
    kernel = Masked(toy.denoiser, toy.L, toy.MASK, toy.T)
    reward = FunctionReward(toy.reward, traceable=True)
    model = DiffusionModel(kernel, reward, LAMBDA, Difference(ManyDraws(2)))
    nothing, times = jnp.zeros(toy.T + 1), np.arange(toy.T + 1)

    def sweep(path, key):
        run_key, pick_key, back_key = jax.random.split(key, 3)
        reference = DiffusionRecord(path, None, nothing, nothing)
        run = smcgen.conditional_smc(model, run_key, reference, 4, ess_threshold=1.0)
        last = run.sample(pick_key)
        lines = backward_lineages(model, run, back_key, last, only_resampled=True)
        new = run.history.x[times, lines[:, 0]]
        return new, jnp.any(new != run.path(last[0]).x, axis=-1)

    sweeps = lambda key, path: jax.lax.scan(sweep, path, jax.random.split(key, 3))
    old = np.stack([x.numpy() for x in paths], 1).astype(np.int32)
    keys = jax.random.split(jax.random.key(11), RUNS)
    found, other = map(np.asarray, quick_jit(jax.vmap(sweeps))(keys, old))
    assert_paths(np.swapaxes(found, 0, 1), "backward")
    steps = toy.mdlm_steps()
    worth = np.where((toy.STATES != toy.MASK).all(1), LAMBDA * toy.REWARD.astype(float), -np.inf)
    for t in range(
        toy.T, 0, -1
    ):  # log E[exp(lambda r) | x_t], what a wrong weight of a past would move
        before, after = (worth[toy.code(x[:, t])] for x in (old, found))
        assert_unbiased(after - before, 0.0, f"what is expected at {t}")
        with np.errstate(divide="ignore"):
            worth = np.log(steps[t - 1] @ np.exp(worth))
    moved = other.mean((0, 1))  # away from the ancestors of the path's end
    assert moved[-1] == 0
    assert np.all(moved[1:-1] > 0.05)


@pytest.mark.slow
def test_a_refresh_leaves_the_twisted_law_invariant():
    """At time 3 the particles have the law p(x_{0:3}) psi_3; two steps written anew keep it."""
    model = Refreshed(steered(Difference(), runs=1), back=2)
    inner, kernel, rows, s = model.model, model.model.kernel, 60_000, 3
    key = jax.random.key(9)
    state, _ = model.init(jax.random.split(key, 1), rows)
    for t in range(1, s + 1):
        new, _ = inner.step(jax.random.split(jax.random.fold_in(key, t), 1), t, state.inner)
        state = Dated(new, model._dated(t, state.inner.x, new.x, state.since))
    log_psi = state.inner.log_psi
    kept = np.log(np.random.default_rng(1).random(rows)) < log_psi - log_psi.max()
    state = kernel.backend.take(state, np.flatnonzero(kept))
    moved = model.refresh(jax.random.split(key, 1), s, state)
    steps = toy.mdlm_steps()[:s]
    law = np.eye(256)[toy.START] @ steps[0] @ steps[1] @ steps[2]
    likely = toy.token_law().argmax(-1)
    best = np.where(toy.STATES == toy.MASK, likely, toy.STATES) @ toy.PLACE
    law = law * np.exp(LAMBDA * toy.REWARD[best].astype(np.float64))
    for what, population in (("before", state), ("after", moved)):
        counts = np.bincount(toy.code(population.inner.x), minlength=256)
        assert_law(counts, law / law.sum(), what)
    changed = np.mean(toy.code(moved.inner.x) != toy.code(state.inner.x))
    assert 0.2 < changed < 0.95
