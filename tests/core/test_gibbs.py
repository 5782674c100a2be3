"""Particle Gibbs leaves the target invariant: one sweep from the exact law, by chi-square."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import smcgen
from smcgen.core.chains import Chains
from smcgen.errors import InvalidArgument, ModelError, UnknownName
from tests.core.models import Host, MarkovChain, chain, markov_chain
from tests.laws import assert_law, assert_unbiased
from tests.schemes import NAMES, Numbered

RUNS = 20_000
MODEL = markov_chain(seed=3, states=2, steps=3, spread=1.2)


class HostChain(Host):
    """The Markov chain, driven from Python with NumPy records."""

    def init_pinned(self, key, n, reference):
        return self.model.init_pinned(key, n, reference)

    def step_pinned(self, key, t, state, reference):
        return self.model.step_pinned(key, t, state, reference)

    def log_continue(self, t, state, path):
        return self.model.log_transition(t, state, jnp.broadcast_to(path[t], state.shape))

    def log_transition(self, t, previous, current):
        return self.model.log_transition(t, jnp.asarray(previous), jnp.asarray(current))


@partial(jax.jit, static_argnames=("n", "rejuvenate", "threshold", "name"))
def swept(start, scheme, n, rejuvenate, threshold, name):
    """One sweep of a chain from each path, under the scheme of that number or that name."""
    reference = Chains(start[:, None], *(jnp.zeros((len(start), 1)),) * 3)
    options = {"rejuvenate": rejuvenate, "ess_threshold": threshold, "reference": reference}
    options |= {"n_particles": n, "resampling": name or Numbered(scheme), "n_chains": len(start)}
    return smcgen.particle_gibbs(MODEL, 0, 1, **options)


def one_sweep(n, scheme, rejuvenate, threshold, runs=RUNS):
    """New paths of `runs` chains that each start from an exact draw, as indices into all paths."""
    paths, law = MODEL.paths()
    drawn = np.random.default_rng(0).choice(len(paths), runs, p=law)
    start = jnp.asarray(paths[drawn])
    name = scheme if rejuvenate == "backward" else None  # which is run with one scheme alone
    chains = swept(start, NAMES.index(scheme), n, rejuvenate, threshold, name)
    new = np.asarray(chains.paths)[:, 0]
    return (new * 2 ** np.arange(new.shape[1])[::-1]).sum(1), law, chains


CASES = [
    *((2, scheme, how, 1.0) for scheme in NAMES for how in (None, "ancestor")),
    *((4, scheme, "ancestor", 0.6) for scheme in NAMES),
    (2, "killing", "backward", 1.0),
    (4, "systematic", "backward", 0.6),
]


@pytest.mark.slow
@pytest.mark.parametrize(("n", "resampling", "rejuvenate", "threshold"), CASES)
def test_target_is_invariant(n, resampling, rejuvenate, threshold):
    new, law, chains = one_sweep(n, resampling, rejuvenate, threshold)
    assert_law(np.bincount(new, minlength=len(law)), law)
    if rejuvenate is None and n == 2:
        inverse = np.exp(-np.asarray(chains.log_evidence[:, 0], np.float64))
        assert_unbiased(inverse, 1 / MODEL.exact())


@pytest.mark.slow
def test_interacting_chains_leave_the_target_invariant():
    """Two chains and two unconditional filters: each pair of new paths is a pair of independent exact draws."""
    runs = 20_000
    paths, law = MODEL.paths()
    drawn = np.random.default_rng(1).choice(len(paths), (runs, 2), p=law)

    def sweep(key, start):
        reference = Chains(start[:, None], *(jnp.zeros((2, 1)),) * 3)
        options = {"n_particles": 2, "rejuvenate": None, "resampling": "multinomial"}
        chains = smcgen.particle_gibbs(
            MODEL, key, 1, n_chains=2, n_unconditional=2, reference=reference, **options
        )
        return chains.paths[:, 0], chains.moved

    keys = jax.random.split(jax.random.key(5), runs)
    new, moved = jax.jit(jax.vmap(sweep))(keys, jnp.asarray(paths[drawn]))
    index = (np.asarray(new) * 2 ** np.arange(4)[::-1]).sum(-1)
    pair = np.outer(law, law)
    counts = np.bincount(index[:, 0] * len(law) + index[:, 1], minlength=pair.size)
    assert_law(counts, pair.ravel())
    assert (
        np.asarray(moved)[:, :, 0, 0].mean() > 0.3
    )  # a chain that changes filters moves at all times


@pytest.mark.slow
@pytest.mark.parametrize("rejuvenate", ["ancestor", "backward"])
def test_host_driven_models_run_the_same_code(rejuvenate):
    """A model driven from Python draws what the traced one draws, sweep by sweep."""
    options = {"n_samples": 3, "n_particles": 4, "n_chains": 2, "thin": 2, "n_warmup": 1}
    options |= {"resampling": "multinomial", "rejuvenate": rejuvenate}
    traced = smcgen.particle_gibbs(MODEL, 7, **options)
    host = smcgen.particle_gibbs(HostChain(MODEL), 7, **options)
    assert len(host.paths) == 2
    assert len(host.paths[0]) == 3
    assert len(host.paths[0][0]) == 4  # one record for each time
    values = host.map(lambda path: np.array(path).ravel())
    np.testing.assert_array_equal(values, np.asarray(traced.paths))
    np.testing.assert_allclose(host.moved, traced.moved, atol=1e-6)


@pytest.mark.slow
def test_watched_chains_are_the_same_and_go_on():
    options = {"n_particles": 4, "n_chains": 2, "resampling": "multinomial"}
    seen = []
    whole = smcgen.particle_gibbs(MODEL, 7, 4, **options)
    watched = smcgen.particle_gibbs(
        MODEL, 7, 4, callback=lambda i, c: seen.append(c.n_samples), **options
    )
    np.testing.assert_array_equal(whole.paths, watched.paths)
    assert seen == [1, 2, 3, 4]
    more = smcgen.particle_gibbs(MODEL, 8, 2, reference=whole, **options)
    assert more.paths.shape == (2, 2, 4)
    assert "n_chains=2, n_samples=4" in repr(whole)


@pytest.mark.slow
def test_interrupted_chains_are_kept():
    def stop(i, chains):
        if i == 1:
            raise KeyboardInterrupt

    options = {"n_particles": 4, "n_chains": 2, "resampling": "multinomial"}
    with pytest.raises(smcgen.SMCInterrupted) as caught:
        smcgen.particle_gibbs(MODEL, 7, 4, callback=stop, **options)
    assert caught.value.result.n_samples == 2


@pytest.mark.slow
def test_reference_is_particle_zero():
    path = jnp.array([1, 0, 1, 1])
    result = smcgen.conditional_smc(MODEL, 1, path, 5, resampling="multinomial")
    np.testing.assert_array_equal(result.path(0), path)
    assert (np.asarray(result.ancestors)[:, 0] == 0).all()


@pytest.mark.slow
def test_chains_go_to_arviz():
    arviz = pytest.importorskip("arviz")
    options = {"n_particles": 8, "n_chains": 3, "n_warmup": 5, "thin": 2}
    chains = smcgen.particle_gibbs(MODEL, 1, 200, **options)
    data = chains.to_arviz(lambda path: {"x": path, "ones": path.sum()})
    assert data.posterior["x"].shape == (3, 200, 4)
    assert data.sample_stats["moved"].dims == ("chain", "draw", "step")
    assert float(arviz.rhat(data)["ones"]) < 1.05
    assert float(arviz.ess(data)["ones"]) > 100
    with pytest.raises(InvalidArgument, match="fn="):
        chains.to_arviz(lambda path: {})


def own_scheme(key, log_weights):
    return jnp.arange(len(log_weights))


@pytest.mark.parametrize(
    "path",
    [jnp.zeros(3, int), jnp.zeros(5, int), jnp.zeros((4, 1), int), {"x": jnp.zeros(4)}, [0, 1, 0, 1], "path"],
    ids=str,
)  # fmt: skip
def test_a_reference_of_another_shape(path, unchecked):
    """Which would be clamped or broadcast, and followed."""
    for call in (smcgen.conditional_smc, smcgen.particle_gibbs, smcgen.evidence_bounds):
        with pytest.raises(InvalidArgument, match=r"reference=.*a path of 4 records, shape \(4,\)"):
            call(MODEL, 0, reference=path, n_particles=3)


@pytest.mark.slow
def test_a_reference_for_each_chain():
    """As the same paths as chains to go on from give it, and in the order in which they were given."""
    starts = jnp.array([[0, 0, 0, 0], [1, 1, 1, 1], [0, 1, 0, 1]])
    options = {"n_samples": 2, "n_particles": 4, "n_chains": 3}
    found = smcgen.particle_gibbs(MODEL, 1, reference=starts, **options)
    begun = Chains(starts[:, None], *(jnp.zeros((3, 1)),) * 3)
    expected = smcgen.particle_gibbs(MODEL, 1, reference=begun, **options)
    np.testing.assert_array_equal(found.paths, expected.paths)
    host = smcgen.particle_gibbs(
        HostChain(MODEL), 1, reference=[list(x) for x in starts], **options
    )
    assert np.shape(host.paths) == (3, 2, 4)
    with pytest.raises(InvalidArgument, match="reference=.*with 2 chains leading"):
        smcgen.particle_gibbs(MODEL, 1, reference=starts, n_chains=2)
    with pytest.raises(InvalidArgument, match="reference='3 paths'"):
        smcgen.particle_gibbs(HostChain(MODEL), 1, reference=[list(x) for x in starts], n_chains=2)


class Dies(HostChain):
    """No particle is possible after so many filters."""

    left = 2

    def init_pinned(self, key, n, reference):
        self.left -= 1
        state, log_g = super().init_pinned(key, n, reference)
        return state, log_g if self.left else log_g - jnp.inf


@pytest.mark.slow
def test_chains_that_a_failure_ended(unchecked):
    options = {"n_samples": 3, "n_particles": 2, "rejuvenate": None}
    with pytest.raises(smcgen.SMCError, match="all weights are zero") as caught:
        smcgen.particle_gibbs(Dies(MODEL), 0, **options)
    assert caught.value.chains.n_samples == 1
    assert smcgen.particle_gibbs(Dies(MODEL), 0, on_error="return", **options).n_samples == 1
    dead = MarkovChain(MODEL.log_start, MODEL.log_move, MODEL.log_g_ - jnp.inf)
    chains = smcgen.particle_gibbs(dead, 0, 2, 2, reference=jnp.zeros(4, int), on_error="return")
    assert (np.asarray(chains.status) == smcgen.Status.ALL_WEIGHTS_ZERO).all()
    with pytest.raises(UnknownName, match="on_error="):
        smcgen.particle_gibbs(dead, 0, on_error="ignore")


def test_what_cannot_be_pinned_is_refused(unchecked):
    path = jnp.array([1, 0, 1, 1])
    with pytest.raises(ModelError, match="init_pinned, step_pinned"):
        smcgen.conditional_smc(chain(), 0, path)
    with pytest.raises(InvalidArgument, match="resampling=<function.*multinomial"):
        smcgen.conditional_smc(MODEL, 0, path, resampling=own_scheme)
    with pytest.raises(InvalidArgument, match="n_particles=1"):
        smcgen.particle_gibbs(MODEL, 0, 2, 1, resampling="multinomial")
    with pytest.raises(UnknownName, match="rejuvenate='forward'"):
        smcgen.particle_gibbs(MODEL, 0, 2, rejuvenate="forward")

    class NoDensity(MarkovChain):
        log_m = smcgen.Markov.log_m

    blind = NoDensity(MODEL.log_start, MODEL.log_move, MODEL.log_g_)
    with pytest.raises(ModelError, match="log_continue"):
        smcgen.particle_gibbs(blind, 0, 2, resampling="multinomial")
    with pytest.raises(ModelError, match="log_transition"):
        smcgen.particle_gibbs(blind, 0, 2, rejuvenate="backward", resampling="multinomial")
