"""The masked kernel: densities against enumeration, draws against densities, JAX against torch."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from smcgen.diffusion.backends.torch import Torch
from smcgen.diffusion.kernels import Masked
from smcgen.diffusion.masked import Counted, Independent
from smcgen.errors import InvalidArgument, UnknownName
from smcgen.text.sampling import Sampling
from tests.diffusion.masked import toy
from tests.diffusion.masked.toy import LOGITS, MASK, PLACE, STATES, L, T, V
from tests.laws import assert_law, assert_unbiased

torch = pytest.importorskip("torch")
KEY = jax.random.key(0)


def torch_denoiser(x, time):
    return torch.from_numpy(LOGITS)[x @ torch.from_numpy(PLACE)]


def both(**options):
    make = lambda denoiser, **b: Masked(denoiser, L, mask_id=MASK, **options, **b)
    return make(toy.denoiser), make(torch_denoiser, backend=Torch())


def tilted(share, sharpness, kind, law):
    """Reveal probabilities of each position, the odds tilted by confidence."""
    sure = np.log(law.max(-1))
    if kind == "margin":
        top = np.sort(np.log(law), -1)
        sure = top[..., -1] - top[..., -2]
    if kind == "entropy":
        sure = (law * np.log(law)).sum(-1)
    masked = STATES == MASK
    mean = (sure * masked).sum(-1, keepdims=True) / np.maximum(masked.sum(-1, keepdims=True), 1)
    odds = share / (1 - share) * np.exp(sharpness * (sure - mean))
    return odds / (1 + odds), sure


def expected(order, t, temperature=1.0):
    """The matrix of step t of the toy under an order."""
    share, law = 1 / (T - t + 1), toy.token_law(temperature)
    if isinstance(order, Independent):
        rates = np.full((len(STATES), L), share)
        if order.sharpness and share < 1:
            rates = tilted(share, order.sharpness, order.confidence, law)[0]
        return toy.matrix(toy.independent(rates), law)
    sure = tilted(0.5, 0, order.confidence, law)[1]
    if order.sharpness == np.inf:
        ranked = np.where(STATES == MASK, -sure, np.inf).argsort(1).argsort(1)
        weights = np.where(ranked < 1, 1.0, 0.0)
    else:
        weights = np.exp(order.sharpness * sure)
    return toy.matrix(toy.counted(1, weights), law)


ORDERS = [
    (Independent(), 1.0),
    (Independent(1.5, "margin"), 0.7),
    (Counted(), 1.0),
    (Counted(1.3, "entropy"), 1.0),
    (Counted(np.inf), 1.0),
]
SHOWN = ["random", "tilted", "counted", "counted-tilted", "confidence"]


@pytest.mark.parametrize(("order", "temperature"), ORDERS, ids=SHOWN)
def test_density_is_the_enumerated_one(order, temperature):
    """Of all 256 x 256 transitions at the second step, those that cannot happen included."""
    kernel, _ = both(steps=T, order=order, sampling=Sampling(temperature))
    # the counted law of this step: states with three masks, of which one is revealed
    some = np.flatnonzero((STATES == MASK).sum(1) == 3) if isinstance(order, Counted) else None
    states = np.arange(256) if some is None else some
    old, new = np.repeat(states, 256), np.tile(np.arange(256), len(states))

    @jax.jit
    def log_prob(old, new):
        prediction = kernel.predict(1, old, jnp.zeros(len(old), int), None)
        return kernel.log_prob(2, old, prediction, new)

    found = np.exp(np.asarray(log_prob(jnp.asarray(STATES[old]), jnp.asarray(STATES[new]))))
    wanted = expected(order, 2, temperature)[states]
    np.testing.assert_allclose(found.reshape(-1, 256), wanted, rtol=2e-5, atol=1e-7)


CHAINS = {
    "tilted": {"order": Independent(1.5, "margin"), "sampling": Sampling(0.7)},
    "counted": {"order": Counted(1.3, "entropy"), "sampling": Sampling(top_p=0.8)},
    "blocks": {
        "remask": 0.3,
        "block_length": 2,
        "schedule": "cosine",
        "sampling": Sampling(top_k=2),
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("options", CHAINS.values(), ids=CHAINS)
def test_draws_follow_the_density_in_both_frameworks(options):
    """A chain of 4000 rows: the same draws and densities in JAX and torch, and a chi-square test at each step."""
    kernel, twin = both(steps=2 if "block_length" in options else T, **options)
    problem = np.zeros(4000, int)

    @jax.jit
    def move(key, t, x, row):
        """x_t, its log density, and the density of all 256 states seen from one row."""
        prediction = kernel.predict(t - 1, x, problem, None)
        new = kernel.draw(key, t, x, prediction)
        every = lambda leaf: jnp.broadcast_to(leaf[row], (256, *leaf.shape[1:]))
        seen = jax.tree.map(every, (x, prediction))
        law = kernel.log_prob(t, *seen, jnp.asarray(STATES, x.dtype))
        return new, kernel.log_prob(t, x, prediction, new), law

    x, y = kernel.draw_prior(KEY, 4000), twin.draw_prior(KEY, 4000)
    for t in range(1, kernel.num_steps + 1):
        key, before = jax.random.fold_in(KEY, t), toy.code(x)
        often = np.bincount(before, minlength=256).argmax()  # the state that most rows are in
        at = before == often
        new, log_p, law = move(key, t, x, np.flatnonzero(at)[0])
        same = twin.predict(t - 1, y, problem, None)
        again = twin.draw(key, t, y, same)
        assert np.array_equal(new, again.numpy())
        np.testing.assert_allclose(log_p, twin.log_prob(t, y, same, again), rtol=1e-4, atol=2e-5)
        assert np.all(np.isfinite(log_p))
        law = np.exp(np.asarray(law, np.float64))
        assert law.sum() == pytest.approx(1, abs=1e-4)
        assert_law(np.bincount(toy.code(new)[at], minlength=256), law, f"step {t}")
        x, y = new, again
    assert not np.any(np.asarray(x) == MASK)


@pytest.mark.slow
def test_draws_of_the_data_and_its_most_likely_value():
    kernel, twin = both(steps=T)
    k, state = 20_000, STATES[[MASK, 255, 0]]  # (0, 0, 0, mask), all masks, none
    x, y = jnp.asarray(state), torch.from_numpy(state)
    problem = np.zeros(3, int)
    prediction, same = kernel.predict(1, x, problem, None), twin.predict(1, y, problem, None)
    drawn = np.asarray(jax.jit(lambda p: kernel.draw_data(KEY, 1, x, p, k))(prediction))
    assert np.array_equal(drawn, twin.draw_data(KEY, 1, y, same, k).numpy())
    law = toy.token_law()
    for position in range(L):
        counts = np.bincount(drawn[k : 2 * k, position], minlength=V)
        assert_law(counts, law[255, position], f"position {position}")
    assert np.all(drawn[:k, :3] == 0)
    assert np.all(drawn[2 * k :] == 0)
    best = np.asarray(kernel.data(1, x, prediction))
    assert best[1].tolist() == law[255].argmax(-1).tolist()
    assert np.array_equal(best, twin.data(1, y, same).numpy())


@pytest.mark.parametrize("kind", ["jax", "torch"])
def test_rare_tokens_are_drawn(kind):
    """A token of probability 1e-12 is drawn when the uniform says so; Gumbels in float32 never get there."""
    from smcgen.diffusion.masked import laws_jax, laws_torch

    logits = np.array([[[0.0, np.log(1e-12), -np.inf]]] * 3, np.float32)
    x = np.full((3, 1), MASK)
    uniforms = np.array([[0.5], [1 - 5e-13], [1 - 2.0**-53]])
    where = np.ones((3, 1), bool)
    if kind == "torch":
        tensors = torch.from_numpy(logits), torch.from_numpy(x)
        new = laws_torch.draw_tokens(tensors[0], Sampling(), uniforms, where, tensors[1])
    else:
        with jax.enable_x64(True):
            uniforms = jnp.asarray(uniforms)
        draw = jax.jit(laws_jax.draw_tokens, static_argnums=1)
        new = draw(jnp.asarray(logits), Sampling(), uniforms, jnp.asarray(where), jnp.asarray(x))
    assert np.asarray(new)[:, 0].tolist() == [0, 1, 1]


def test_remasking_keeps_the_schedule():
    """With the exact network of independent letters, ReMDM has MDLM's marginals: m_t masks, and the data's letters."""
    law = np.array([0.2, 0.3, 0.5])
    logits = torch.from_numpy(np.append(np.log(law), 0.0)).float()
    network = lambda x, time: logits.expand(*x.shape, V + 1)
    kernel = Masked(network, 16, MASK, 6, remask=0.7, backend=Torch())
    problem, x, remasked = np.zeros(4000, int), kernel.draw_prior(KEY, 4000), 0
    move = lambda k, t, x: kernel.draw(k, t, x, kernel.predict(t - 1, x, problem, None))
    for t in range(1, 7):
        new = move(jax.random.fold_in(KEY, t), t, x)
        remasked += int(np.sum((np.asarray(x) != MASK) & (np.asarray(new) == MASK)))
        x = new
        assert_unbiased((x.numpy() == MASK).mean(1), 1 - t / 6, f"masks at {t}")
    assert remasked > 1000
    assert_law(np.bincount(np.ravel(x), minlength=V), law, "letters")


def test_a_canvas_with_prompts_and_blocks():
    """Given tokens stay, blocks are finished in turn, and problems may have different prompts."""
    canvas = np.array([[0, 1, 3, 3, 3, 3], [2, 3, 3, 3, 3, 3]])
    seen = []

    def network(x, time, problem):
        seen.append((float(time), np.asarray(problem).tolist()))
        return torch.zeros((*x.shape, V + 1))

    kernel = Masked(
        network, canvas, MASK, 2, order="random-count", block_length=2, conditional=True, backend=Torch()
    )  # fmt: skip
    assert kernel.num_steps == 6  # the fullest canvas has three blocks
    x = kernel.draw_prior(KEY, 4)
    assert np.asarray(x)[:, 0].tolist() == [0, 0, 2, 2]
    for t in range(1, 7):
        prediction = kernel.predict(t - 1, x, np.array([0, 0, 1, 1]), None)
        x = kernel.draw(jax.random.fold_in(KEY, t), t, x, prediction)
        masks = (np.asarray(x) == MASK).sum(1).tolist()
        assert masks == [max(4 - t, 0)] * 2 + [5 - min(t, 5)] * 2
        if t == 2:
            assert not np.any(np.asarray(x)[:2, 2:4] == MASK)
    assert seen[0] == (1.0, [0, 0, 1, 1])
    assert seen[3][0] == pytest.approx(0.5)
    assert np.asarray(x)[:, :2].tolist()[0] == [0, 1]


@pytest.mark.parametrize("mask", [V, -1])
def test_a_network_without_a_column_for_the_mask(mask):
    """The mask need not be a token that the network knows: no token is then forbidden."""
    logits = np.log(np.array([0.2, 0.3, 0.5]))
    network = lambda x, time: torch.tensor(np.broadcast_to(logits, (*x.shape, V)).copy())
    kernel = Masked(network, L, mask, 1, backend=Torch())
    x = kernel.draw_prior(KEY, 2)
    prediction = kernel.predict(0, x, np.zeros(2, int), None)
    new = kernel.draw(KEY, 1, x, prediction)
    assert np.all((new.numpy() >= 0) & (new.numpy() < V))
    log_p = kernel.log_prob(1, x, prediction, new)
    np.testing.assert_allclose(log_p, logits[new.numpy()].sum(1), rtol=1e-5)
    jaxed = Masked(lambda x, time: jnp.zeros((*x.shape, V)), L, mask, 1)
    ids = jnp.full((2, L), mask)
    assert np.isfinite(jaxed.predict(0, ids, np.zeros(2, int), None).logits).all()


def test_greedy_steps_are_deterministic():
    """Without a choice there is nothing to resample; a random order is one."""
    greedy = Sampling(temperature=0)
    make = lambda order: Masked(toy.denoiser, L, MASK, T, order=order, sampling=greedy)
    assert make("confidence").deterministic == (True,) * T
    assert make("random").deterministic == (False,) * (T - 1) + (True,)
    assert Masked(toy.denoiser, L, MASK, T).deterministic == (False,) * T
    assert replace(make("random"), order="confidence").deterministic == (True,) * T


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"canvas": 0}, "canvas=0"),
        ({"canvas": [0, 1]}, "the mask, 3, where to write"),
        ({"canvas": [[0.5]]}, "token ids of shape"),
        ({"steps": 0}, "steps=0"),
        ({"remask": 2.0}, "a number in [0, 1]"),
        ({"remask": 0.5, "order": "confidence"}, "an order that counts"),
        ({"order": "sideways"}, "'random-count'"),
        ({"schedule": "steep"}, "'cosine'"),
        ({"schedule": lambda u: u}, "falls from 1 at 0"),
        ({"block_length": 0}, "block_length=0"),
        ({"prompts": ("a", "b")}, "one for each of 1 rows"),
    ],
)
def test_bad_arguments(options, what, unchecked):
    with pytest.raises(InvalidArgument) as caught:
        Masked(toy.denoiser, **{"canvas": L, "mask_id": MASK, "steps": T} | options)
    assert what in str(caught.value)


def test_bad_orders(unchecked):
    with pytest.raises(InvalidArgument, match="finite number >= 0"):
        Independent(np.inf)
    with pytest.raises(UnknownName, match="'entropy', 'margin', 'probability'"):
        Counted(1.0, "loudness")  # type: ignore[arg-type]
