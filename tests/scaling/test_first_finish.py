"""First-finish search: when it stops, and the law of what it chooses."""

import numpy as np
import pytest

from smcgen import scaling
from smcgen.text.texts import Finish
from tests.laws import assert_law
from tests.scaling import exact
from tests.text.toy import EOS


@pytest.mark.slow
def test_first_finish_follows_its_law():
    """P(the first of n ends at token l) = S_{l-1}^n - S_l^n, S_l the probability to go on after l tokens."""
    ends = np.zeros(exact.TOKENS + 1)
    for ids, log_p in exact.ENGINE.law(exact.TOKENS).items():
        ends[len(ids) if ids[-1] == EOS else 0] += np.exp(log_p)
    survive = (1 - np.cumsum([0.0, *ends[1:]])) ** exact.N
    outcomes = exact.run(scaling.FirstFinish(chunk=1))
    length = [int(o.candidates.lengths[o.chosen]) for o in outcomes]
    none = [o.finish[o.chosen] != Finish.EOS for o in outcomes]
    counts = [
        sum(n == k and not cut for n, cut in zip(length, none, strict=True)) for k in range(1, 4)
    ]
    assert_law(np.array([*counts, sum(none)]), np.array([*-np.diff(survive), survive[-1]]))
    for o in outcomes:
        assert len(set(o.candidates.lengths.tolist())) == 1  # all stop where the first one ended
        assert o.cost.tokens_generated == o.candidates.lengths.sum()


@pytest.mark.slow
def test_several_temperatures():
    way = scaling.MultiTemperature(temperatures=(0.5, 2.0))
    o = exact.run(way, 5, prompts=2)[0]
    assert [len(run.texts) for run in o.runs] == [3, 2]
    cold = scaling.Writing(**{**vars(exact.WRITING), "temperature": 0.5})
    alone = scaling.Sample().run(exact.ENGINE, ["a"] * 2, budget=3, key=5, writing=cold)[0]
    assert o.runs[0].texts == alone.texts
    np.testing.assert_allclose(o.weights, 0.2)
