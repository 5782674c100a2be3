"""Particle Gibbs: each sweep leaves the target as it is, and says what it cost."""

import numpy as np
import pytest

from smcgen import scaling
from smcgen.text.texts import Finish
from tests.laws import assert_unbiased
from tests.scaling import exact


@pytest.mark.slow
def test_sweeps_go_to_the_target():
    """Two texts a sweep: a filter of two is far from the target, the fifth sweep is at it."""
    z = sum(p * exact.psi(text) for (text, _), p in exact.law().items())
    value = lambda text: float(text.count("a"))
    target = sum(p * exact.psi(t) * value(t) for (t, _), p in exact.law().items()) / z
    outcomes = exact.run(scaling.PGAS(sweeps=5, ess_threshold=1.0), 10)
    mean = lambda run: sum(w * value(t) for w, t in zip(run.weights, run.texts, strict=True))
    last = np.array([mean(o.runs[-1]) for o in outcomes])
    assert_unbiased(last - target + 1.0, 1.0)
    assert all(len(o.runs) == 5 for o in outcomes)


@pytest.mark.slow
def test_sweeps_share_the_budget():
    outcome = exact.run(scaling.ParticleGibbs(sweeps=3, discard=1), 9, prompts=2)[0]
    assert [len(run.texts) for run in outcome.runs] == [3, 3]  # the first does not count
    assert outcome.cost.tokens_generated > sum(r.cost.tokens_generated for r in outcome.runs)
    few = exact.run(scaling.ParticleGibbs(sweeps=4), 5, prompts=2)[0]
    assert [len(run.texts) for run in few.runs] == [2, 2]
    kept = [set(a.texts) & set(b.texts) for a, b in zip(few.runs, few.runs[1:], strict=False)]
    assert all(kept)  # a text of each sweep is one of the next


@pytest.mark.slow
def test_warmup_guides_the_sweeps_too():
    """After the first step a text that goes on has a hundredth of its log-potential."""

    def first(warmup):
        outcome = exact.run(scaling.ParticleGibbs(sweeps=2, warmup=warmup), 8, prompts=1)[0]
        records = [run.history[1] for run in outcome.runs]
        return np.concatenate([r.log_psi[r.finish == Finish.RUNNING] for r in records])

    plain, slow = first(0), first(100)
    assert plain.max() < -0.3
    assert slow.min() > -0.02
