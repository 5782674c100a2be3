"""The law that vLLM's texts and weights have, against enumeration: not the texts of another engine of ours."""

import functools
import itertools
import re

import numpy as np
import pytest

from smcgen.core.smc import smc
from smcgen.text import Expert, FunctionReward, Regex, Sampling, Step, TextModel
from smcgen.text.prompts import encode
from tests.laws import assert_unbiased
from tests.text import tiny, vllm_tiny

pytestmark = [vllm_tiny.needs_vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
N, TOKENS, RUNS, PROMPT = 4, 5, 500, "a."
EOS = len(tiny.CHARACTERS)
PATTERN = r"[ab]*(\.[ab]*)?"


@functools.cache
def law(seed=0, sampling=Sampling()):
    """Probability of each text, ended or cut off, by the logits of the model itself."""
    import torch

    model, found = vllm_tiny.llama(seed), {}
    prompt = list(encode(vllm_tiny.twin().tokenizer, PROMPT).ids)
    for length in range(TOKENS + 1):
        end = (EOS,) if length < TOKENS else ()
        texts = [ids + end for ids in itertools.product(range(EOS), repeat=length)]
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + list(t) for t in texts])).logits.double()
        logs = (logits / sampling.temperature).log_softmax(-1)[:, len(prompt) - 1 : -1]
        each = logs.gather(2, torch.tensor(texts)[..., None])[..., 0].sum(1)
        found |= dict(zip(texts, each.exp().tolist(), strict=True))
    return found


def text_of(ids):
    return "".join(tiny.CHARACTERS[i] for i in ids if i < EOS)


def tilt(texts):
    return [0.8 * t.count("a") - 0.5 * t.count(".") for t in texts]


def fits(ids):
    return float(re.fullmatch(PATTERN, text_of(ids)) is not None)


CASES = {
    "a constraint": (Regex(PATTERN), fits, {}),
    "a constraint, tempered": (Regex(PATTERN), fits, {"sampling": Sampling(0.7)}),
    "a constraint and a tilt": (
        Regex(PATTERN) * FunctionReward(tilt),
        lambda ids: fits(ids) * np.exp(tilt([text_of(ids)])[0]),
        {},
    ),
    "an expert, by another proposal": (
        Regex(PATTERN) * Expert(vllm_tiny.llama(5), 0.5, tiny.tokenizer()),
        lambda ids: fits(ids) * law(5)[ids] ** 0.5,
        {"proposal": Sampling(1.5)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_run_ahead_until_the_weights_part(case):
    """E[Z-hat] = Z and E[Z-hat f-hat] = Z pi(f), for `Step(ess=...)` and f the length."""
    potential, psi, fields = CASES[case]
    p = law(0, fields.get("sampling", Sampling()))
    assert abs(sum(p.values()) - 1) < 1e-5
    z = sum(q * psi(ids) for ids, q in p.items())
    zf = sum(q * psi(ids) * len(ids) for ids, q in p.items())
    prompts, step = [PROMPT] * RUNS, Step(ess=0.95)
    model = TextModel(vllm_tiny.engine(), prompts, potential, step, 8, TOKENS, **fields)
    run = smc(model, 11, N, on_error="return", ess_threshold=0.95)
    assert run.num_steps > 2  # it stops to resample
    z_hat = np.exp(np.asarray(run.log_evidence, np.float64))
    lengths = run.particles.lengths.reshape(RUNS, N)
    f_hat = (np.exp(np.asarray(run.log_weights, np.float64)) * lengths).sum(1)
    assert_unbiased(z_hat / z, 1.0, "Z")
    assert_unbiased(z_hat * f_hat / zf, 1.0, "Z f")
