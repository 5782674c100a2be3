"""The published particle filter: Z-hat against the target that its docstring states."""

import numpy as np
import pytest

from smcgen import scaling
from tests.laws import assert_unbiased
from tests.scaling import exact


def weight(scale, s):
    return {"log": s, "logit": s / (1 - s), "identity": np.exp(s)}[scale]


@pytest.mark.slow
@pytest.mark.parametrize("scale", ["logit", "identity"])
def test_evidence_is_unbiased_for_the_product_of_all_scores(scale):
    z = 0.0
    for ids, log_p in exact.ENGINE.law(exact.TOKENS).items():
        prefixes = [exact.ENGINE.tokenizer.decode(ids[: k + 1]) for k in range(len(ids))]
        z += np.exp(log_p) * np.prod([weight(scale, s) for s in exact.right(prefixes)])
    outcomes = exact.run(scaling.PuriParticleFilter(scale=scale, ended="absorb"))
    assert_unbiased(np.exp([o.runs[0].log_evidence for o in outcomes]) / z, 1.0)


@pytest.mark.slow
def test_published_rounds_weight_ended_texts_again():
    """With a fixed number of rounds the target repeats the last score of a text that ended early."""
    z = 0.0
    for ids, log_p in exact.ENGINE.law(exact.TOKENS).items():
        texts = [exact.ENGINE.tokenizer.decode(ids[: k + 1]) for k in range(len(ids))]
        texts += texts[-1:] * (exact.TOKENS - len(ids))
        z += np.exp(log_p) * np.prod([weight("log", s) for s in exact.right(texts)])
    outcomes = exact.run(scaling.PuriParticleFilter(scale="log"))
    whole = [o.runs[0] for o in outcomes if o.runs[0].population.lengths.max() == exact.TOKENS]
    assert len(whole) < len(outcomes)  # a population that ends earlier stops there
    values = []
    for o in outcomes:
        run, missing = o.runs[0], 0
        rounds = int(np.asarray(run.smc.log_evidence_increments != 0).nonzero()[0].max(initial=0))
        missing = exact.TOKENS - rounds
        last = np.where(np.isnan(run.scores), 1.0, run.scores)
        # what the remaining rounds would have estimated, all particles having ended: their exact mean
        values.append(np.exp(run.log_evidence) * float((run.weights * last**missing).sum()))
    assert_unbiased(np.array(values) / z, 1.0)
