"""The laws again on a real engine: constraints, experts and tilts on an enumerated transformers model.

On vLLM each case writes the texts of transformers with their weights, particle for particle: the law is then the same.
"""

import functools
import itertools
import re

import numpy as np
import pytest

from smcgen.core.cost import Meter
from smcgen.core.smc import smc
from smcgen.text import Expert, FunctionReward, Regex, Sampling, TextModel, Tilt
from smcgen.text.potentials.algebra import where
from smcgen.text.prompts import encode
from tests.laws import assert_unbiased
from tests.text import tiny, vllm_tiny

N, TOKENS, RUNS = 3, 4, 600
EOS = len(tiny.CHARACTERS)


def complete_texts(end=True):
    """All texts of at most TOKENS tokens: ended by EOS, or (`end=False` too) cut off."""
    for length in range(TOKENS + 1):
        for ids in itertools.product(range(EOS), repeat=length):
            if length < TOKENS:
                yield (*ids, EOS)
            elif not end:
                yield ids


VLLM = pytest.param("vllm", marks=[vllm_tiny.needs_vllm, pytest.mark.slow])


@pytest.fixture(autouse=True, params=["transformers", VLLM])
def engine(request):
    """Every law holds on every engine."""
    global ENGINE
    ENGINE = tiny.engine() if request.param == "transformers" else vllm_tiny.engine()


@functools.cache
def law(engine, prompt, end=True, sampling=Sampling()):
    """Probability of each text."""
    texts = list(complete_texts(end))
    prompts = [encode(engine.tokenizer, prompt)] * len(texts)
    scored = engine.score(prompts, [list(t) for t in texts], sampling, Meter())
    return {t: float(np.exp(lp.sum())) for t, lp in zip(texts, scored, strict=True)}


def text_of(ids):
    return "".join(tiny.CHARACTERS[i] for i in ids if i < EOS)


def check(potential, psi, step, prompt="a.", end=False, **options):
    """E[Z-hat] = Z and E[Z-hat phi-hat] = Z pi(phi) with phi the length."""
    sampling = options.get("sampling", Sampling())
    fields = {k: options.pop(k) for k in ("sampling", "proposal") if k in options}

    def write(engine, runs):
        model = TextModel(engine, [prompt] * runs, potential, step, 8, TOKENS, **fields)
        return smc(model, 11, N, on_error="return", **options)

    if ENGINE is not tiny.engine():
        vllm_tiny.assert_same(write(ENGINE, 20), write(vllm_tiny.twin(), 20))
        return
    p = law(ENGINE, prompt, end, sampling)
    z = sum(q * psi(ids) for ids, q in p.items())
    zphi = sum(q * psi(ids) * len(ids) for ids, q in p.items())
    run = write(ENGINE, RUNS)
    z_hat = np.exp(np.asarray(run.log_evidence, np.float64))
    lengths = run.particles.lengths.reshape(RUNS, N)
    mean = (np.exp(np.asarray(run.log_weights, np.float64)) * lengths).sum(1)
    assert_unbiased(z_hat / z, 1.0, "Z")
    assert_unbiased(z_hat * mean / zphi, 1.0, "Z phi")


def test_the_enumerated_law_is_one():
    assert abs(sum(law(ENGINE, "a.", end=False).values()) - 1) < 1e-5


LEVELS = pytest.mark.parametrize("step", ["\n", 1, 3], ids=["lines", "tokens", "three tokens"])


@pytest.mark.slow
@LEVELS
@pytest.mark.parametrize("pattern", [r"[ab]*", r"(a|b\.)+", r"a?b(\n|\.)?"])
def test_constraint_has_the_weight_of_the_allowed_mass(pattern, step):
    def psi(ids):
        return float(re.fullmatch(pattern, text_of(ids)) is not None)

    check(Regex(pattern), psi, step, ess_threshold=0.7)


@LEVELS
@pytest.mark.parametrize("strength", [0.7, -0.4], ids=["expert", "anti-expert"])
def test_expert_multiplies_the_law(strength, step):
    other = law(_second(), "a.", end=False)
    psi = lambda ids: other[ids] ** strength
    check(Expert(tiny.llama(5), strength, tiny.tokenizer()), psi, step, ess_threshold=0.7)


def _second():
    return tiny.engine(5)


def tilt(texts):
    return [0.8 * t.count("a") - 0.5 * t.count(".") for t in texts]


@pytest.mark.slow
@LEVELS
def test_constraint_times_tilt_times_expert_tempered(step):
    """One product: a constraint, a reward to a power, an expert where the prompt says so."""
    other = law(_second(), "a.", end=False)
    product = Regex(r"[ab.]*") * FunctionReward(tilt) ** 1.5
    expert = Expert(tiny.llama(5), 0.5, tiny.tokenizer())
    product = product * where(lambda prompt: prompt.startswith("a"), expert)
    product = product * where(
        lambda prompt: prompt.startswith("b"), FunctionReward(lambda t: [9.0] * len(t))
    )

    def psi(ids):
        text = text_of(ids)
        allowed = re.fullmatch(r"[ab.]*", text) is not None
        return allowed * np.exp(1.5 * tilt([text])[0]) * other[ids] ** 0.5

    check(product, psi, step, ess_threshold=0.7)


@pytest.mark.parametrize("sampling", [Sampling(0.7), Sampling(1.4, top_k=3), Sampling(top_p=0.8)])
def test_weights_use_the_law_that_was_sampled(sampling):
    psi = lambda ids: np.exp(tilt([text_of(ids)])[0])
    check(FunctionReward(tilt), psi, 1, sampling=sampling)


def test_a_constraint_under_a_truncated_law():
    psi = lambda ids: float(re.fullmatch(r"[ab]*", text_of(ids)) is not None)
    check(Regex(r"[ab]*"), psi, 1, sampling=Sampling(top_k=3))


def test_another_proposal_is_corrected_for():
    psi = lambda ids: np.exp(tilt([text_of(ids)])[0])
    check(FunctionReward(tilt), psi, "\n", proposal=Sampling(1.5))


def test_where_on_the_text():
    condition = lambda text: "b" in text
    potential = where(
        condition, Tilt(FunctionReward(tilt)), FunctionReward(lambda ts: [0.3] * len(ts)), on="text"
    )
    psi = lambda ids: np.exp(tilt([text_of(ids)])[0] if "b" in text_of(ids) else 0.3)
    check(potential, psi, 1)
