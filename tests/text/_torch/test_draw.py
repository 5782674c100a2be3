import numpy as np
import pytest
import torch

from smcgen.text._torch.draw import draw, normalise, warp
from smcgen.text.sampling import Sampling, covers


def _reference(logits: np.ndarray, s: Sampling) -> np.ndarray:
    """The law of one row, written out."""
    x = logits.astype(np.float64)
    if s.temperature == 0:
        return np.where(np.arange(len(x)) == x.argmax(), 1.0, 0.0)
    p = np.exp((x - x.max()) / s.temperature)
    if s.top_k is not None and s.top_k < len(p):
        p[p < np.sort(p)[-s.top_k]] = 0
    p /= p.sum()
    if s.top_p < 1:
        order = np.sort(p)[::-1]
        floor = order[min(np.searchsorted(np.cumsum(order), s.top_p), len(p) - 1)]
        p[p < floor] = 0
    return p / p.sum()


LAWS = [
    Sampling(),
    Sampling(temperature=0),
    Sampling(temperature=0.3),
    Sampling(temperature=2.5, top_k=3),
    Sampling(top_k=1000),
    Sampling(top_p=0.7),
    Sampling(top_p=0.999),
    Sampling(temperature=0.7, top_k=20, top_p=0.6),
    Sampling(temperature=1e-4, top_p=0.9),
]


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("vocab", [5, 300, 3000])
def test_warp_is_the_law_written_out(law: Sampling, vocab: int):
    logits = torch.randn(7, vocab, generator=torch.Generator().manual_seed(0)) * 3
    got = warp(logits, law).exp().numpy()
    want = np.stack([_reference(row, law) for row in logits.numpy()])
    np.testing.assert_allclose(got, want, atol=2e-5)
    np.testing.assert_array_equal(got > 0, want > 1e-40)


def test_ties_are_all_kept_and_greedy_takes_the_first():
    logits = torch.tensor([[1.0, 2.0, 2.0, 0.0, 2.0]])
    assert (warp(logits, Sampling(top_k=2)).exp() > 0).tolist() == [
        [False, True, True, False, True]
    ]
    assert (warp(logits, Sampling(top_p=0.3)).exp() > 0).tolist() == [
        [False, True, True, False, True]
    ]
    assert warp(logits, Sampling(temperature=0)).exp().tolist() == [[0, 1, 0, 0, 0]]


def test_half_precision_logits_are_warped_in_float32():
    logits = torch.randn(2, 50).bfloat16()
    got = warp(logits, Sampling())
    assert got.dtype == torch.float32
    assert torch.equal(got, logits.float().log_softmax(-1))


@pytest.mark.parametrize(
    "law", [Sampling(), Sampling(temperature=0.5, top_k=3), Sampling(top_p=0.8)]
)
def test_draws_follow_the_law(law: Sampling):
    logits = torch.tensor([[0.3, -1.0, 2.0, 0.9, 0.0]])
    n = 100_000
    uniforms = torch.rand(n, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    tokens = draw(warp(logits, law).exp().expand(n, -1), uniforms)
    counts = np.bincount(tokens.numpy(), minlength=5)
    expected = n * _reference(logits[0].numpy(), law)
    assert (counts[expected == 0] == 0).all()
    seen = expected > 0
    chi2 = ((counts - expected)[seen] ** 2 / expected[seen]).sum()
    degrees = seen.sum() - 1
    assert chi2 < degrees + 5 * np.sqrt(2 * degrees) + 5


@pytest.mark.parametrize("vocab", [1, 5, 512, 1025, 5000])
def test_draw_inverts_the_distribution_function(vocab: int):
    generator = torch.Generator().manual_seed(2)
    log_q = (torch.randn(200, vocab, generator=generator) * 4).log_softmax(-1)
    log_q[:, ::3] = -torch.inf
    if vocab == 1:
        log_q[:] = 0.0
    uniforms = torch.rand(200, generator=generator, dtype=torch.float64)
    tokens = draw(log_q.exp(), uniforms).numpy()
    q = np.exp(log_q.numpy()).astype(np.float64)
    cumulative = np.cumsum(q, axis=1)
    target = uniforms.numpy() * cumulative[:, -1]
    rows = np.arange(200)
    assert (q[rows, tokens] > 0).all()
    assert (cumulative[rows, tokens] >= target - 1e-12).all()
    assert (cumulative[rows, tokens] - q[rows, tokens] <= target + 1e-12).all()


@pytest.mark.parametrize("vocab", [100, 5000])
@pytest.mark.parametrize("place", [0, 50, -1])
def test_tails_are_reached_and_zeros_are_not(vocab: int, place: int):
    law = torch.full((1, vocab), -torch.inf)
    law[0, 30] = 0.0
    law[0, place] = np.log(1e-12)
    reach = lambda u: draw(law.exp(), torch.tensor([u], dtype=torch.float64)).item()
    here = place % vocab
    if here < 30:
        assert reach(0.5e-12) == here
        assert reach(2e-12) == 30
    else:
        assert reach(1 - 0.5e-12) == here
        assert reach(1 - 2e-12) == 30
    for u in (0.0, 2.0**-54, 0.5, 1 - 2.0**-53, 1.0):
        assert reach(u) in (here, 30)


def test_a_row_without_mass_is_told_apart():
    log_mass = torch.tensor([[0.0, -torch.inf], [-torch.inf, -torch.inf]])
    law, mass = normalise(log_mass)
    assert mass.tolist() == [0.0, -np.inf]
    assert not law.isnan().any()
    assert draw(law, torch.tensor([0.9, 0.9], dtype=torch.float64))[0] == 0


@pytest.mark.parametrize("scale", [0.1, 6.0, 100.0])
@pytest.mark.parametrize("shift", [0.0, -300.0])
def test_the_mass_of_a_large_vocabulary_is_that_in_double_precision(scale: float, shift: float):
    logits = torch.randn(4, 150_001, generator=torch.Generator().manual_seed(3)) * scale
    log_mass = logits.log_softmax(-1) + shift  # what the constraint leaves may be very little
    log_mass[:, ::2] = -torch.inf
    want = log_mass.double().logsumexp(-1, keepdim=True)
    law, mass = normalise(log_mass)
    np.testing.assert_allclose(mass, want[:, 0], rtol=1e-7, atol=1e-6)
    exact = (log_mass.double() - want).exp()
    np.testing.assert_allclose(law, exact, rtol=5e-5, atol=1e-37)  # below are no floats of 24 bits
    assert (law[:, ::2] == 0).all()


@pytest.mark.parametrize(
    ("proposal", "base", "covered"),
    [
        (Sampling(temperature=2.0), Sampling(top_k=5), True),
        (Sampling(top_k=5), Sampling(), False),
        (Sampling(temperature=2.0, top_k=9), Sampling(top_k=5), True),
        (Sampling(top_k=4), Sampling(top_k=5), False),
        (Sampling(top_p=0.9), Sampling(top_p=0.8), True),
        (Sampling(temperature=2.0, top_p=0.9), Sampling(top_p=0.8), False),
        (Sampling(temperature=0), Sampling(), False),
        (Sampling(temperature=0), Sampling(temperature=0), True),
    ],
)
def test_which_proposals_can_draw_all_that_the_base_allows(proposal, base, covered):
    assert covers(proposal, base) == covered
