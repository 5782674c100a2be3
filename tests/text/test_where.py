"""`where`: the law of each branch, and that a branch costs nothing to problems it does not concern."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from smcgen.core.cost import Meter
from smcgen.core.smc import smc
from smcgen.text.factors.base import Setting
from smcgen.text.factors.token_mask import TokenMask
from smcgen.text.model import TextModel
from smcgen.text.potentials.algebra import where
from smcgen.text.rewards import FunctionReward
from smcgen.text.rewards._cache import ByContent
from smcgen.text.rewards.base import Reward
from tests.laws import assert_unbiased
from tests.text.toy import ToyEngine

PROMPTS = ["a", "b", "ab", "ba"]
BEGINS_WITH_A = lambda prompt: prompt.startswith("a")
HAS_B = lambda text: "b" in text


@dataclass(frozen=True, eq=False)
class Dear(Reward):
    """Reads its prompts when it is opened, as a process reward does, and scores +-`value` per a."""

    value: float = 0.5
    opened: list = field(default_factory=list)
    scored: list = field(default_factory=list)
    moved: list = field(default_factory=list)

    def open_reward(self, prompts, n, tokenizer, meter):
        self.opened.append([p.text for p in prompts])
        meter.add(reward_tokens=sum(len(p.ids) for p in prompts))
        return _DearSession(self, len(prompts) * n, meter)


@dataclass
class _DearSession(ByContent):
    part: Dear
    rows: int
    meter: Meter

    def score(self, texts, rows):
        assert len(texts) == self.rows
        self.part.scored.extend(texts.prompt(row).text for row in rows)
        self.meter.add(reward_calls=len(rows))
        return np.array([self.part.value * texts.text(row).count("a") for row in rows])

    def take(self, ancestors):
        assert len(ancestors) == self.rows
        assert np.isin(ancestors, np.arange(self.rows)).all()
        self.part.moved.append(ancestors)

    def drop(self, rows):
        assert np.isin(rows, np.arange(self.rows)).all()


def steered(potential, prompts=PROMPTS, key=0, n=6):
    model = TextModel(ToyEngine(), prompts, potential, step_rule=1, max_tokens=4)
    return smc(model, key, n, ess_threshold=1.0)


def test_each_branch_is_opened_and_scored_for_its_own_problems():
    yes, no = Dear(0.7), Dear(-0.7)
    run = steered(where(BEGINS_WITH_A, yes, no))
    assert yes.opened == [["a", "ab"]]
    assert no.opened == [["b", "ba"]]
    assert set(yes.scored) == {"a", "ab"}
    assert set(no.scored) == {"b", "ba"}
    assert all(len(ancestors) == 12 for ancestors in (*yes.moved, *no.moved))
    assert yes.moved
    assert run.cost.reward_calls == len(yes.scored) + len(no.scored)
    assert run.cost.reward_tokens == 6, "every prompt was read once"
    # a problem's run is what it is with that branch alone
    for branch, problems in ((yes, (0, 2)), (no, (1, 3))):
        alone = steered(branch)
        for b in problems:
            np.testing.assert_array_equal(run.ancestors[:, b], alone.ancestors[:, b])
            np.testing.assert_allclose(run.log_evidence[b], alone.log_evidence[b], rtol=1e-6)


def test_a_branch_that_concerns_nobody_is_never_opened():
    dear = Dear()
    run = steered(where(lambda prompt: False, dear))
    assert not dear.opened
    assert run.cost.reward_calls == run.cost.reward_tokens == 0
    np.testing.assert_allclose(run.log_evidence, 0.0, atol=1e-6)


def test_on_texts_a_branch_is_opened_when_a_text_first_meets_it():
    dear = Dear()
    steered(where(lambda text: False, dear, on="text"))
    assert not dear.opened
    run = steered(where(HAS_B, dear, on="text"))
    assert dear.opened == [PROMPTS]
    assert run.cost.reward_calls == len(dear.scored)


@pytest.mark.parametrize("on", ["prompt", "text"])
def test_the_law_is_that_of_the_branch_in_force(on):
    """Z = E_p[psi], psi of one branch where the condition holds and of the other where it does not."""
    values = {True: 0.9, False: -0.6}
    test = BEGINS_WITH_A if on == "prompt" else HAS_B
    reward = lambda value: FunctionReward(lambda texts: [value * t.count("a") for t in texts])
    engine, runs = ToyEngine(), 400
    potential = where(test, reward(values[True]), reward(values[False]), on=on)
    model = TextModel(engine, ["a", "b"] * runs, potential, step_rule=1, max_tokens=3)
    z_hat = np.exp(np.asarray(smc(model, 1, 3).log_evidence, np.float64)).reshape(runs, 2)
    law = {engine.tokenizer.decode(ids): 0.0 for ids in engine.law(3)}
    for ids, lp in engine.law(3).items():
        law[engine.tokenizer.decode(ids)] += np.exp(lp)
    for b, prompt in enumerate("ab"):
        holds = lambda text, prompt=prompt: test(prompt if on == "prompt" else text)
        z = sum(p * np.exp(values[holds(t)] * t.count("a")) for t, p in law.items())
        assert_unbiased(z_hat[:, b] / z, 1.0, f"Z after {prompt!r}")


@pytest.mark.parametrize("on", ["prompt", "text"])
def test_a_resumed_run_goes_on_as_it_was(on, tmp_path):
    test = BEGINS_WITH_A if on == "prompt" else HAS_B
    fresh = lambda: where(test, Dear(0.7), Dear(-0.7), on=on)
    model = lambda: TextModel(ToyEngine(), PROMPTS, fresh(), step_rule=1, max_tokens=4)
    whole = steered(fresh())

    def stop(progress):
        if progress.t == 2:
            raise KeyboardInterrupt

    options: dict[str, Any] = {"ess_threshold": 1.0, "checkpoint": tmp_path / "run"}
    smc(model(), 0, 6, callback=stop, on_error="return", **options)
    resumed = smc(model(), 0, 6, **options)
    np.testing.assert_array_equal(resumed.ancestors, whole.ancestors)
    np.testing.assert_array_equal(resumed.log_weights, whole.log_weights)


def test_a_factor_is_opened_for_its_own_problems():
    torch = pytest.importorskip("torch")
    asked = []

    def allowed(prompts, completions):
        asked.extend(map(tuple, prompts))
        return [[len(ids)] for ids in completions]  # the token whose number is the text's length

    engine = ToyEngine()
    model = TextModel(engine, PROMPTS, where(BEGINS_WITH_A, TokenMask(allowed, prompts=True)))
    (factor,) = model.potential.factors()
    device, tokenizer = torch.device("cpu"), engine.tokenizer
    session = factor.open_factor(
        Setting(model.prompts, 2, tokenizer, 5, engine.eos_ids, device, Meter(), [()] * 8)
    )
    rows = np.array([1, 2, 4, 5, 7])  # of the problems a, b, ab, ab, ba
    session.push(np.array([2, 5]), np.array([3, 1]))
    session.take(np.array([0, 0, 2, 3, 5, 5, 6, 7]))
    log_phi = session.log_phi(rows).numpy()
    nothing = np.zeros(5)
    masks = np.where(np.eye(5) > 0, 0.0, -np.inf)
    np.testing.assert_array_equal(log_phi, [masks[0], nothing, masks[1], masks[1], nothing])
    assert set(asked) == {(0,), (0, 1)}
    np.testing.assert_array_equal(session.log_cut(rows)[[1, 4]], 0.0)
