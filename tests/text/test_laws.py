"""The laws of steered text, on a language model that is enumerated: E[Z-hat] = Z, E[Z-hat phi-hat] = Z pi(phi)."""

import numpy as np
import pytest

from smcgen.core.smc import smc
from smcgen.text.model import TextModel
from smcgen.text.potentials.tilt import Tilt
from smcgen.text.rewards import FunctionReward
from smcgen.text.sampling import Sampling
from tests.laws import assert_unbiased
from tests.text.toy import ToyEngine

RUNS, N, TOKENS = 1500, 4, 4
SCHEMES = ["multinomial", "stratified", "systematic", "residual", "ssp", "killing"]
TWISTS = ["value", "product", "min", "mean", "max", "sum", "none"]


def tilt_reward(texts):
    """An exponential tilt, meaningful on prefixes."""
    return [0.9 * t.count("a") - 0.6 * t.count(".") for t in texts]


def hard_reward(texts):
    """A hard constraint, known at the end and excluded as soon as it is lost."""
    return [-np.inf if "aa" in t else 0.0 for t in texts]


def process_reward(texts):
    """Probability that a text is right, as a process reward would say."""
    return [(1 + t.count("b")) / (2.0 + len(t)) for t in texts]


def exact(engine, psi, phi, sampling=Sampling()):
    law = engine.law(TOKENS, sampling)
    w = {ids: np.exp(lp) * psi(engine.tokenizer.decode(ids)) for ids, lp in law.items()}
    assert abs(sum(np.exp(lp) for lp in law.values()) - 1) < 1e-9
    z = sum(w.values())
    return z, sum(w[ids] * phi(ids) for ids in w)


def estimates(engine, potential, phi, step, **options):
    """Z-hat and Z-hat * phi-hat of RUNS independent runs: one run with a problem axis."""
    sampling, proposal = options.pop("sampling", Sampling()), options.pop("proposal", None)
    model = TextModel(engine, ["a"] * RUNS, potential, step, 8, TOKENS, sampling, proposal)
    run = smc(model, 7, N, on_error="return", **options)
    z = np.exp(np.asarray(run.log_evidence, np.float64))
    texts = run.particles
    values = np.array([phi(tuple(texts.tokens(r))) for r in range(len(texts))]).reshape(RUNS, N)
    return z, z * (np.exp(np.asarray(run.log_weights, np.float64)) * values).sum(1), run


def check(engine, potential, psi, step, **options):
    phi = lambda ids: float(len(ids)) + 0.5 * (ids[0] == 0)
    z, zphi = exact(engine, psi, phi, options.get("sampling", Sampling()))
    z_hat, zphi_hat, run = estimates(engine, potential, phi, step, **options)
    assert_unbiased(z_hat / z, 1.0, "Z")
    assert_unbiased(zphi_hat / zphi, 1.0, "Z phi")
    return run


SLOW = pytest.mark.slow
STEPS = {"lines": "\n", "tokens": 1, "two tokens": 2}


def crossed(names, usual):
    """Every name with every step; fast is each name at lines, and the usual one at every step."""
    fast = lambda name, step: step == "lines" or name == usual
    return [
        pytest.param(name, STEPS[step], id=f"{name}-{step}", marks=() if fast(name, step) else SLOW)
        for name in names
        for step in STEPS
    ]


@pytest.mark.parametrize(("twist", "step"), crossed(TWISTS, "value"))
def test_every_twist_has_the_same_target(twist, step):
    engine = ToyEngine(1)
    reward = FunctionReward(process_reward, probability=True)
    psi = lambda text: process_reward([text])[0] ** 1.5
    check(engine, Tilt(reward, 1.5, twist), psi, step, ess_threshold=0.8)


@pytest.mark.parametrize(
    "scheme",
    [pytest.param(s, marks=() if s in ("multinomial", "systematic") else SLOW) for s in SCHEMES],
)
@pytest.mark.parametrize("step", ["\n", 1], ids=["lines", "tokens"])
def test_every_scheme_is_unbiased(scheme, step):
    engine = ToyEngine(2)
    psi = lambda text: np.exp(tilt_reward([text])[0])
    run = check(
        engine, Tilt(FunctionReward(tilt_reward)), psi, step, resampling=scheme, ess_threshold=1.0
    )
    assert np.asarray(run.resampled).any()


@pytest.mark.parametrize("threshold", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("absorbing", [False, True])
def test_hard_constraint(threshold, absorbing):
    """Lost is lost: whether the filter is told so or not, the target is the same."""
    psi = lambda text: np.exp(hard_reward([text])[0])
    tilt = Tilt(FunctionReward(hard_reward), absorbing=absorbing)
    check(ToyEngine(3), tilt, psi, 1, ess_threshold=threshold)


@pytest.mark.parametrize("probability", [False, True])
def test_a_verifier_of_finished_texts(probability):
    """It rejects most prefixes; they must not be given up for that."""

    def verify(texts):
        accepted = [len(t) % 2 == 1 for t in texts]
        return [float(ok) if probability else (0.0 if ok else -np.inf) for ok in accepted]

    psi = lambda text: float(len(text) % 2 == 1)
    reward = FunctionReward(verify, probability=probability)
    check(ToyEngine(3), Tilt(reward), psi, 1, ess_threshold=0.5)


@pytest.mark.parametrize("scale", ["log", "logit"])
def test_scales(scale):
    s = lambda text: process_reward([text])[0]
    psi = {"log": s, "logit": lambda text: s(text) / (1 - s(text))}[scale]
    check(ToyEngine(4), Tilt(FunctionReward(process_reward, probability=True), scale=scale), psi, 1)


@pytest.mark.parametrize("outcome", ["min", "product", "mean"])
def test_outcomes_of_the_whole_history(outcome):
    """The target may depend on every step's score, whatever guides."""

    def psi(text_ids):
        text = text_ids
        scores = [process_reward([text[: i + 1]])[0] for i in range(len(text))]
        return scores

    engine = ToyEngine(5)
    reduce = {"min": np.min, "product": np.prod, "mean": np.mean}[outcome]

    def of_text(ids):
        # token level: a score after each token, the end token included (it adds no character)
        texts = [engine.tokenizer.decode(ids[: i + 1]) for i in range(len(ids))]
        return float(reduce([process_reward([t])[0] for t in texts]))

    law = engine.law(TOKENS)
    z = sum(np.exp(lp) * of_text(ids) for ids, lp in law.items())
    reward = FunctionReward(process_reward, probability=True)
    potential = Tilt(reward, twist="value", outcome=outcome)
    z_hat, _, _ = estimates(engine, potential, lambda ids: 1.0, 1, ess_threshold=0.8)
    assert_unbiased(z_hat / z, 1.0)


@pytest.mark.parametrize("sampling", [Sampling(0.7), Sampling(top_k=3), Sampling(1.3, top_p=0.8)])
def test_base_laws(sampling):
    psi = lambda text: np.exp(tilt_reward([text])[0])
    check(ToyEngine(6), Tilt(FunctionReward(tilt_reward)), psi, 1, sampling=sampling)


def test_another_proposal_is_corrected_for():
    psi = lambda text: np.exp(tilt_reward([text])[0])
    check(ToyEngine(6), Tilt(FunctionReward(tilt_reward)), psi, "\n", proposal=Sampling(1.5))


def test_without_a_potential_the_evidence_is_one():
    model = TextModel(ToyEngine(0), "a", None, 1, 8, TOKENS)
    run = smc(model, 0, 16)
    np.testing.assert_allclose(run.log_evidence, 0.0, atol=1e-6)
    assert not np.asarray(run.resampled).any()
