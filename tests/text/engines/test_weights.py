"""Laws of the weights: base, factors and proposal against exact enumeration, by z-tests."""

import itertools

import jax
import numpy as np
import pytest

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument
from smcgen.text._torch.draw import warp
from smcgen.text.engines import Law
from smcgen.text.randomness import StepRandomness
from smcgen.text.sampling import Sampling
from smcgen.text.steps import Step
from smcgen.text.texts import Finish
from tests.text._torch.tiny import recompute
from tests.text.engines.toys import Table, prompt, small

V, T, N = 5, 3, 20_000
START = prompt(1, 2)
SOFT = np.random.default_rng(0).normal(size=(V, V)).astype(np.float32)
HARD = np.where(np.random.default_rng(1).random((V, V)) < 0.5, 0.0, -np.inf)
HARD[2, 3] = 0.0


def _exact(law: Sampling, factors: list[Table], cut: float) -> dict[tuple[int, ...], float]:
    """Unnormalised target mass of every text of at most T tokens; token 0 ends a text."""
    import torch

    lm = small().model
    conditional: dict[tuple[int, ...], np.ndarray] = {}

    def log_p(ids: tuple[int, ...]) -> np.ndarray:
        if ids not in conditional:
            logits = recompute(lm, [*START.ids, *ids])[-1:]
            conditional[ids] = warp(torch.from_numpy(logits), law)[0].double().numpy()
        return conditional[ids]

    masses: dict[tuple[int, ...], float] = {}
    for text in itertools.product(range(V), repeat=T):
        ids = text[: text.index(0) + 1] if 0 in text else text
        if ids in masses:
            continue
        total = 0.0 if 0 in ids else cut
        previous = START.ids[-1]
        for j, token in enumerate(ids):
            total += log_p(ids[:j])[token] + sum(float(f.table[previous, token]) for f in factors)
            previous = token
        masses[ids] = float(np.exp(total))
    return masses


CASES = {
    "plain": (Sampling(), (), None),
    "top-k": (Sampling(temperature=0.8, top_k=3), (), None),
    "soft factor": (Sampling(), (Table(SOFT),), None),
    "hard factor": (Sampling(top_p=0.9), (Table(HARD),), None),
    "two factors": (Sampling(), (Table(SOFT), Table(HARD)), None),
    "proposal": (Sampling(temperature=0.7), (), Sampling(temperature=1.3)),
    "all": (Sampling(top_k=4), (Table(SOFT), Table(HARD)), Sampling(temperature=1.5)),
    "incomplete texts weigh nothing": (Sampling(), (Table(SOFT, cut=-np.inf),), None),
    "incomplete texts weigh less": (
        Sampling(),
        (Table(SOFT, cut=-0.7),),
        Sampling(temperature=1.2),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_weights_are_exact(case: str):
    law, factors, proposal = CASES[case]
    cut = sum(f.cut for f in factors)
    exact = _exact(law, list(factors), cut)
    session = small().open([START], N, Law(law, factors, proposal), Meter())
    random = StepRandomness(jax.random.split(jax.random.key(3), 1), N)
    got = session.extend(np.arange(N), Step(tokens=T), np.full(N, T), random)
    log_weights = got.log_base + got.log_factor - got.log_proposal
    weights = np.exp(log_weights)
    total = sum(exact.values())
    spread = weights.std() / np.sqrt(N)
    assert abs(weights.mean() - total) < 5 * spread + 1e-5 * total
    # and the weighted number of each text
    texts = [tuple(t[:k]) for t, k in zip(got.tokens.tolist(), got.lengths.tolist(), strict=True)]
    for text, mass in exact.items():
        hit = weights * np.array([t == text for t in texts])
        # E[hit^2] <= max weight * mass; the last term is for texts seen a few times or never
        most = weights.max()
        assert abs(hit.mean() - mass) < 5 * np.sqrt(most * mass / N) + 10 * most / N
        if mass == 0:
            assert hit.sum() == 0
    if proposal is None and law.temperature == 1 and not factors:
        assert (log_weights == 0).all()


def test_the_default_proposal_weighs_every_token_alike():
    """p phi / q is the allowed mass: the same whatever token was drawn."""
    session = small().open([START], 500, Law(Sampling(), (Table(HARD),)), Meter())
    random = StepRandomness(jax.random.split(jax.random.key(3), 1), 500)
    got = session.extend(np.arange(500), Step(tokens=1), np.full(500, 9), random)
    log_weights = got.log_base + got.log_factor - got.log_proposal
    assert len(set(got.tokens[:, 0].tolist())) > 1
    np.testing.assert_allclose(log_weights, log_weights[0], atol=1e-6)


def test_a_text_without_allowed_tokens_is_dead():
    table = np.full((V, V), 0.0)
    table[3] = -np.inf  # nothing may follow token 3
    meter = Meter()
    session = small().open([START], 3000, Law(Sampling(), (Table(table),)), meter)
    random = StepRandomness(jax.random.split(jax.random.key(5), 1), 3000)
    got = session.extend(np.arange(3000), Step(tokens=4), np.full(3000, 9), random)
    dead = got.finish == Finish.DEAD
    assert dead.any()
    assert not dead.all()
    for row in np.flatnonzero(dead):
        assert got.tokens[row, got.lengths[row] - 1] == 3
        assert got.log_factor[row] == -np.inf
        assert np.isfinite([got.log_base[row], got.log_proposal[row]]).all()
    assert meter.read().tokens_generated == got.lengths.sum()
    everyone = small().open([START], 4, Law(Sampling(), (Table(table - np.inf),)), Meter())
    none = everyone.extend(np.arange(4), Step(tokens=4), np.full(4, 9), random)
    assert (none.finish == Finish.DEAD).all()
    assert none.tokens.shape == (4, 0)


def test_proposals_that_miss_tokens_are_refused():
    for proposal in (Sampling(top_k=2), Sampling(top_p=0.9), Sampling(temperature=0)):
        with pytest.raises(InvalidArgument, match="proposal"):
            small().open([START], 2, Law(Sampling(), (), proposal), Meter())
    small().open([START], 2, Law(Sampling(temperature=0), (), None), Meter())
