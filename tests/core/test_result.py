"""What a result says: ancestry, trajectories, expectations, samples, and how it is shown."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen.core.result import SMCResult
from smcgen.errors import InvalidArgument, UnknownName
from tests.core.models import OPTIONS, Gaussian, Host, Problems, gaussian, three_chains
from tests.laws import assert_law


@pytest.fixture(scope="module")
def run():
    return smcgen.smc(gaussian(), 1, **OPTIONS)


@pytest.fixture(scope="module")
def problems_run():
    return smcgen.smc(Problems(three_chains()), 1, **OPTIONS)


def lineage(ancestors, i):
    """Indices at times 0..T of final particle i's ancestors, one at a time."""
    path = [i]
    for a in reversed(np.asarray(ancestors)):
        path.append(int(a[path[-1]]))
    return path[::-1]


def test_ancestry_founders_and_trajectories(run):
    ancestry, paths = np.asarray(run.ancestry()), np.asarray(run.trajectories())
    history = np.asarray(run.history)
    assert history.shape == (5, 8)
    for i in range(8):
        expected = lineage(run.ancestors, i)
        np.testing.assert_array_equal(ancestry[:, i], expected)
        np.testing.assert_array_equal(paths[:, i], history[np.arange(5), expected])
        assert run.founders[i] == expected[0]
    np.testing.assert_array_equal(paths[-1], run.particles)
    assert run.unique_founders == len(set(np.asarray(run.founders).tolist()))


def test_ancestry_with_problems(problems_run):
    run = problems_run
    ancestry, paths = np.asarray(run.ancestry()), np.asarray(run.trajectories()["x"])
    history = np.asarray(run.history["x"])
    assert ancestry.shape == paths.shape == (5, 3, 8)
    for b in range(3):
        for i in range(8):
            expected = lineage(np.asarray(run.ancestors)[:, b], i)
            np.testing.assert_array_equal(ancestry[:, b, i], expected)
            np.testing.assert_array_equal(paths[:, b, i], history[np.arange(5), b, expected])
            assert run.founders[b, i] == expected[0]
    unique = [len(set(row)) for row in np.asarray(run.founders).tolist()]
    np.testing.assert_array_equal(run.unique_founders, unique)


def test_trajectories_of_a_host_model_are_the_same(run):
    same = smcgen.smc(Host(gaussian()), 1, **OPTIONS)
    assert isinstance(same.history, list)
    # values near zero are differences of terms of size one, whose rounding is 6e-8 each
    np.testing.assert_allclose(same.trajectories(), run.trajectories(), rtol=1e-5, atol=2e-7)


@pytest.mark.slow
def test_lineages_that_end_carry_no_weight_away(run):
    """The founder's label travels with the state: `take` and ancestors speak of the same particles."""

    class Labelled(smcgen.FeynmanKac):
        num_steps = 6

        def init(self, key, n):
            return jnp.arange(n), jax.random.normal(key, (n,))

        def step(self, key, t, label):
            return label, 2 * jax.random.normal(key, label.shape)

    labels = smcgen.smc(Labelled(), 0, 20, ess_threshold=0.3)
    assert 0 < np.sum(labels.resampled) < 6
    np.testing.assert_array_equal(labels.particles, labels.founders)


def test_expectation(run, problems_run):
    w, x = np.exp(np.asarray(run.log_weights, np.float64)), np.asarray(run.particles, np.float64)
    np.testing.assert_allclose(run.expectation(), w @ x, rtol=1e-5)
    np.testing.assert_allclose(run.expectation(lambda x: x > 0), w @ (x > 0), rtol=1e-5)
    both = run.expectation(lambda x: {"m": x, "outer": x[:, None, None] * jnp.ones((2, 3))})
    np.testing.assert_allclose(both["outer"], np.full((2, 3), w @ x), rtol=1e-5)
    several = problems_run.expectation(lambda state: state["x"])
    w = np.exp(np.asarray(problems_run.log_weights))
    np.testing.assert_allclose(
        several, (w * np.asarray(problems_run.particles["x"])).sum(1), rtol=1e-5
    )


def test_expectation_of_rows_of_all_problems(problems_run):
    """A function of texts has one row for each particle of all problems: row = problem * n + particle."""
    w = np.exp(np.asarray(problems_run.log_weights, np.float64))
    x = np.asarray(problems_run.particles["x"], np.float64)
    flat = problems_run.expectation(lambda state: state["x"].reshape(-1))
    np.testing.assert_allclose(flat, (w * x).sum(1), rtol=1e-5)
    wide = problems_run.expectation(lambda state: np.stack([x.ravel(), -x.ravel()], 1))
    np.testing.assert_allclose(wide, np.stack([(w * x).sum(1), -(w * x).sum(1)], 1), rtol=1e-5)


@pytest.mark.parametrize("shape", [(), (3,), (8,), (8, 3), (25,)])
def test_expectation_of_another_shape_is_refused(shape, problems_run):
    message = re.escape(f"fn='an array of shape {shape}'") + r".*\(3, 8, \.\.\.\) or \(24, \.\.\.\)"
    with pytest.raises(InvalidArgument, match=message):
        problems_run.expectation(lambda state: np.zeros(shape))


def test_expectation_of_what_is_no_array_is_refused(run):
    with pytest.raises(InvalidArgument, match=r"fn='object'.*arrays of shape \(8, \.\.\.\): "):
        run.expectation(lambda state: object())


def test_expectation_ignores_values_of_weight_zero(run):
    log_weights = jnp.log(jnp.asarray([0.25, 0.0, 0.75]))
    odd = run.replace(particles=jnp.asarray([1.0, jnp.nan, 3.0]), log_weights=log_weights)
    np.testing.assert_allclose(odd.expectation(), 2.5, rtol=1e-6)


@pytest.mark.slow
def test_sample_draws_by_weight(problems_run, unchecked):
    index = np.asarray(problems_run.sample(3, 20_000))
    assert index.shape == (3, 20_000)
    for b in range(3):
        counts = np.bincount(index[b], minlength=8)
        assert_law(
            counts, np.exp(np.asarray(problems_run.log_weights[b], np.float64)), f"problem {b}"
        )
    # the draws of two problems are independent, and another seed gives other draws
    assert (index[0] != index[1]).any()
    np.testing.assert_array_equal(problems_run.sample(jax.random.key(3), 20_000), index)
    for key in (jax.random.PRNGKey(3), np.uint8(3), jnp.int32(3)):
        np.testing.assert_array_equal(problems_run.sample(key, 20_000), index)
    assert (np.asarray(problems_run.sample(4, 20_000)) != index).any()


@pytest.mark.slow
@pytest.mark.optimised
def test_sample_is_exact_among_many_particles(run):
    """float32 Gumbels of a million particles tie, and ties favour the first."""
    n = 10**6
    many = run.replace(log_weights=jnp.full(n, -jnp.log(n)))
    index = np.asarray(many.sample(0, 200_000))
    assert_law(np.bincount(index * 20 // n, minlength=20), np.full(20, 1 / 20))


@pytest.mark.slow
def test_sample_never_draws_a_weight_of_zero(run):
    lw = jnp.full(8, -jnp.inf).at[4].set(0.0)
    np.testing.assert_array_equal(run.replace(log_weights=lw).sample(0, 50), 4)
    with pytest.raises(InvalidArgument, match="num=0"):
        run.sample(0, 0)


def test_keep():
    model = gaussian()
    kept = {
        k: smcgen.smc(model, 0, **{**OPTIONS, "keep": k})
        for k in ("summary", "ancestors", "particles")
    }
    assert kept["summary"].ancestors is None
    assert kept["summary"].history is kept["ancestors"].history is None
    for run in kept.values():  # what is kept does not change what happens
        np.testing.assert_allclose(run.particles, kept["particles"].particles, rtol=1e-5)
        np.testing.assert_array_equal(run.founders, kept["particles"].founders)
    with pytest.raises(InvalidArgument, match="keep='summary'"):
        kept["summary"].ancestry()
    with pytest.raises(InvalidArgument, match="keep='ancestors'"):
        kept["ancestors"].trajectories()


def test_keep_is_checked(unchecked):
    with pytest.raises(UnknownName, match="'ancestors', 'particles', 'summary'"):
        smcgen.smc(gaussian(), 0, 8, keep="everything")


@pytest.mark.slow
def test_a_model_says_what_is_kept_and_shown():
    class Shown(Gaussian):
        def record(self, x):
            return {"twice": 2 * x}

        def particles(self, x):
            return -x

    model = gaussian()
    jax.tree_util.register_dataclass(Shown, ["a", "q", "r", "y"], [])
    run = smcgen.smc(Shown(model.a, model.q, model.r, model.y), 0, 8, keep="particles")
    np.testing.assert_allclose(run.history["twice"][-1], -2 * run.particles, rtol=1e-6)


def test_repr(run, problems_run):
    assert "n_particles=8, num_steps=4" in repr(run)
    assert "status=OK" in repr(run)
    assert "log_evidence=[" in repr(problems_run)
    shown = []

    def traced(key):
        inner = smcgen.smc(gaussian(), key, 5)
        shown.append(repr(inner))
        return inner.log_evidence

    jax.eval_shape(traced, jax.random.key(0))
    assert shown == ["SMCResult(traced, n_particles=5, num_steps=4)"]


def test_a_result_is_a_pytree(run):
    """It can be returned from jit, passed to jit (cost included), and rebuilt from its leaves."""
    leaves, structure = jax.tree.flatten(run)
    again = jax.tree.unflatten(structure, leaves)
    assert isinstance(again, SMCResult)
    assert again.cost == run.cost
    mean = jax.jit(lambda r: r.expectation())(run)
    np.testing.assert_allclose(mean, run.expectation(), rtol=1e-6)
    twice = jax.tree.map(lambda *x: np.stack(x), run, run)
    assert twice.log_weights.shape == (2, 8)


def test_cost(run):
    assert run.cost.nfe == 8 * 5
    assert run.cost.seconds > 0
    watched = smcgen.smc(gaussian(), 0, 8, callback=lambda progress: None)
    assert watched.cost.nfe == 8 * 5


def test_stderr_of_an_even_population_is_zero_and_of_one_founder_unknown(run):
    base = run.replace(log_weights=jnp.full(8, -jnp.log(8.0)), resampled=np.zeros(4, bool))
    even = float(base.replace(founders=jnp.arange(8)).log_evidence_stderr)
    assert np.isnan(even) or even < 1e-3  # zero up to rounding
    one = base.replace(founders=jnp.zeros(8, int))
    assert np.isnan(one.log_evidence_stderr)
    parent = one.replace(resampled=np.ones(4, bool), same_parent=np.ones(4))  # no pair is left
    assert np.isnan(parent.log_evidence_stderr)


def _degenerate(n, steps, **options):
    class Noise(smcgen.FeynmanKac):
        num_steps = steps

        def init(self, key, n):
            return jnp.zeros(n), jnp.zeros(n)

        def step(self, key, t, x):
            return x, jax.random.normal(key, x.shape)

    run = lambda key: smcgen.smc(Noise(), key, n, ess_threshold=1.0, **options)
    many = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(0), 40))
    return [jax.tree.map(lambda x, i=i: x[i], many) for i in range(40)]


@pytest.mark.slow
@pytest.mark.parametrize(("n", "steps"), [(4, 200), (16, 300)])
def test_stderr_is_not_a_number_where_the_genealogy_says_nothing(n, steps):
    """One founder left: neither 0 nor a rounding error times (n / (n - 1))^r."""
    runs = _degenerate(n, steps, resampling="multinomial")
    alone = [run for run in runs if run.unique_founders == 1]
    assert len(alone) > 30
    assert all(np.isnan(run.log_evidence_stderr) for run in alone)
