"""Conditional SMC on an enumerated model: it leaves the posterior as it is, and ancestors are weighed exactly."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from smcgen import conditional_smc, particle_gibbs
from smcgen.core.chains import Chains
from smcgen.errors import InvalidArgument, ModelError, RewardError
from smcgen.text import FunctionReward, Sampling, Step, TextModel, Tilt
from smcgen.text.potentials.algebra import where
from smcgen.text.state import TextRecord
from tests.laws import assert_law
from tests.text.paths import (
    Steps,
    Text,
    assert_invariant,
    check_log_continue,
    flat,
    is_text,
    path_of,
    steps_of,
)
from tests.text.toy import EOS, ToyEngine, ToyTokenizer

RUNS, SWEEPS, TOKENS = 800, 2, 4
RULES: dict[str, tuple[Any, Callable]] = {
    "lines": ("\n", lambda step: step[-1] == 3),
    "tokens": (1, lambda step: True),
    "two tokens": (2, lambda step: len(step) == 2),
}
LINES = RULES["lines"][1]


def text_of(ids: Sequence[int]) -> str:
    return ToyTokenizer().decode(ids)


def tilt(texts: Sequence[str]) -> list[float]:
    return [1.5 * t.count("a") - 1.5 * t.count(".") * t.startswith("b") for t in texts]


def right(texts: Sequence[str]) -> list[float]:
    """A probability, as a process reward would give it."""
    return [(1 + t.count("b")) / (2.0 + len(t)) for t in texts]


def tilted(law: dict[Text, float], psi: Callable[[Text], float]) -> dict[Text, float]:
    """Weights of the posterior, texts of weight zero left out."""
    weighed = {ids: np.exp(lp) * psi(ids) for ids, lp in law.items()}
    return {ids: w for ids, w in weighed.items() if w > 0}


def log_tilt(steps: Steps) -> float:
    return tilt([text_of(flat(steps))])[0]


def log_of_steps(reduce: Callable) -> Callable[[Steps], float]:
    """An outcome of the scores after each step."""

    def log_psi(steps: Steps) -> float:
        before = [flat(steps[: k + 1]) for k in range(len(steps))]
        return float(np.log(reduce([right([text_of(ids)])[0] for ids in before])))

    return log_psi


REWARD, PRM = Tilt(FunctionReward(tilt)), FunctionReward(right, probability=True)


# ---- the law -----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("ancestors", [False, True], ids=["plain", "ancestors"])
@pytest.mark.parametrize("rule", ["lines", "tokens"])
def test_sweeps_leave_the_posterior_as_it_is(rule, ancestors):
    step, ends = RULES[rule]
    engine = ToyEngine(1)
    law = tilted(engine.law(TOKENS), lambda ids: np.exp(tilt([text_of(ids)])[0]))
    model = TextModel(engine, ["a"] * RUNS, REWARD, step, 8, TOKENS)
    run = assert_invariant(model, law, ends, SWEEPS, ancestor_sampling=ancestors)
    found_a_new_past = (np.asarray(run.ancestors)[:, :, 0] != 0).any()
    assert found_a_new_past == ancestors


@pytest.mark.slow
def test_sweeps_with_a_proposal_a_condition_and_seldom_resampling():
    engine, law = ToyEngine(3), Sampling(0.8)
    of_text = lambda ids: tilt([text_of(ids)])[0] if "b" in text_of(ids) else 0.4
    other = FunctionReward(lambda texts: [0.4] * len(texts))
    potential = where(lambda text: "b" in text, REWARD, other, on="text")
    posterior = tilted(engine.law(TOKENS, law), lambda ids: np.exp(of_text(ids)))
    fields = (8, TOKENS, law, Sampling(1.5))
    model = TextModel(engine, ["a"] * RUNS, potential, 1, *fields)
    options = {"ancestor_sampling": True, "ess_threshold": 0.8}
    assert_invariant(model, posterior, RULES["tokens"][1], SWEEPS, **options)


@pytest.mark.slow
def test_sweeps_of_texts_that_are_cut_off_at_the_last_step():
    engine = ToyEngine(4)
    law: dict[Text, float] = {}
    for ids, lp in engine.law(
        TOKENS
    ).items():  # the same law, stopped at the end of the second line
        kept = tuple(flat(steps_of(ids, LINES)[:2]))
        law[kept] = np.logaddexp(law.get(kept, -np.inf), lp)
    posterior = tilted(law, lambda ids: np.exp(tilt([text_of(ids)])[0]))
    model = TextModel(engine, ["a"] * RUNS, REWARD, "\n", 2, TOKENS)
    assert_invariant(model, posterior, LINES, SWEEPS, ancestor_sampling=True)


@pytest.mark.slow
def test_particle_gibbs_leaves_the_posterior_as_it_is():
    """Chains of two particles that start from exact draws, a sweep each."""
    chains, engine = 40, ToyEngine(1)
    law = tilted(engine.law(2), lambda ids: np.exp(tilt([text_of(ids)])[0]))
    model = TextModel(engine, "a", REWARD, 1, max_tokens=2)
    texts, p = list(law), np.array(list(law.values())) / sum(law.values())
    drawn = np.random.default_rng(2).choice(len(texts), chains, p=p)
    starts = [[single(texts[i], RULES["tokens"][1], model)] for i in drawn]
    start = Chains(starts, *(np.zeros((chains, 1)),) * 3)
    run = particle_gibbs(model, 5, 1, 2, reference=start, n_chains=chains)
    new = [tuple(flat_path(chain[0])) for chain in run.paths]
    assert_law(np.bincount([texts.index(ids) for ids in new], minlength=len(texts)), p)
    assert np.mean([ids != texts[i] for ids, i in zip(new, drawn, strict=True)]) > 0.2


def single(ids: Text, ends: Callable, model: TextModel) -> list[TextRecord]:
    """The path of a text on a model of one prompt."""
    return [TextRecord(*(x[0] for x in record)) for record in path_of([ids], ends, model)]


def flat_path(path: Sequence[TextRecord]) -> list[int]:
    """The tokens of a path of one prompt."""
    return [i for record in path for i in record.tokens.tolist() if i >= 0]


@pytest.mark.slow
def test_chains_of_texts_are_read_as_texts():
    model = TextModel(ToyEngine(1), "a", REWARD, max_tokens=TOKENS)
    chains = particle_gibbs(model, 0, 3, 2, n_chains=2, n_warmup=1)
    texts = chains.map(model.text)
    assert texts.shape == (2, 3)
    assert texts[1, 2] == text_of([i for i in flat_path(chains.paths[1][2]) if i < EOS])
    many = TextModel(ToyEngine(1), ["a", "b"], REWARD, max_tokens=TOKENS)
    path = conditional_smc(many, 0, path_of([(0, EOS), (1, EOS)], LINES, many), 2).path(
        np.zeros(2, int)
    )
    assert many.text(path) == ["a", "b"]


def test_backward_sampling_of_texts_is_refused():
    """What a text does next depends on all that came before: no density of a single step says it."""
    model = TextModel(ToyEngine(1), "a", REWARD, max_tokens=TOKENS)
    with pytest.raises(ModelError, match="log_transition"):
        particle_gibbs(model, 0, 2, 2, rejuvenate="backward")


# ---- the weights of ancestors ------------------------------------------------------------------

LOST = Tilt(
    FunctionReward(lambda texts: [-np.inf if "aa" in t else 0.0 for t in texts]), absorbing=True
)
VERIFIED = Tilt(FunctionReward(lambda texts: [0.0 if len(t) % 2 else -np.inf for t in texts]))


def log_verified(steps: Steps) -> float:
    """Zero before the end means "not yet": the twist stays as it was."""
    whole = steps[-1][-1] == EOS or sum(map(len, steps)) == TOKENS
    odd = [len(text_of(flat(steps[: k + 1]))) % 2 for k in range(len(steps))]
    return -np.inf if whole and not odd[-1] else 0.0


CASES: dict[str, tuple[Any, Callable[[Steps], float]]] = {
    "nothing": (None, lambda steps: 0.0),
    "a tilt": (REWARD, log_tilt),
    "the product of steps": (Tilt(PRM, outcome="product"), None),
    "the least of steps": (Tilt(PRM, outcome="min", twist="min"), None),
    "lost is lost": (LOST, lambda steps: -np.inf if "aa" in text_of(flat(steps)) else 0.0),
    "verified at the end": (VERIFIED, log_verified),
    "on some texts": (
        where(lambda text: "b" in text, REWARD, on="text"),
        lambda steps: log_tilt(steps) if "b" in text_of(flat(steps)) else 0.0,
    ),
    "on some prompts": (
        where(lambda prompt: prompt == "a", REWARD, FunctionReward(lambda t: [0.3] * len(t))),
        log_tilt,
    ),
}


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("case", CASES)
def test_what_is_left_of_a_path_behind_every_text(case, rule):
    potential, log_psi = CASES[case]
    step, ends = RULES[rule]
    reduce = {"the product of steps": np.prod, "the least of steps": np.min}.get(case)
    if reduce:
        twist = "min" if case == "the least of steps" else "value"
        whole, value = log_of_steps(reduce), log_of_steps(lambda scores: scores[-1])
        log_psi = lambda steps: (whole if ended(steps) or twist == "min" else value)(steps)
    engine = ToyEngine(7)
    table = {ids: lp for k in range(1, TOKENS + 1) for ids, lp in engine.law(k).items()} | {(): 0.0}
    references = [(0, 3, 1, EOS), (1, 3, 0, 1), (2, EOS), (3, 3, 3, 3), (1, 2, 1)]
    references += [(0, 1, 0, 3), (EOS,), (0, 3, 1, 3)]
    limits = (3 if rule == "lines" else 8, TOKENS)
    model = TextModel(engine, ["a"] * len(references), potential, step, *limits)
    texts = [
        ids if is_text(steps_of(ids, ends), ends, model) else (*ids, EOS)[:TOKENS]
        for ids in references
    ]
    texts = [t if is_text(steps_of(t, ends), ends, model) else (0, EOS) for t in texts]

    def ended(steps: Steps) -> bool:
        total = sum(map(len, steps))
        at_last = len(steps) == limits[0] and ends(steps[-1])
        return steps[-1][-1] == EOS or total == TOKENS or at_last

    log_p = lambda problem, ids: table[tuple(ids)]
    assert check_log_continue(model, texts, ends, log_p, log_psi) > 20


# ---- what cannot be ----------------------------------------------------------------------------


def one(ids: Text, potential: Any = REWARD, step: Any = "\n", seed: int = 0):
    """A sweep of a single prompt along a text."""
    model = TextModel(ToyEngine(1), "a", potential, step, 8, TOKENS)
    return conditional_smc(model, seed, single(ids, LINES, model), 4, ancestor_sampling=True)


@pytest.mark.slow
def test_the_reference_of_a_single_prompt_is_particle_zero():
    run = one((0, 3, 1, EOS))
    assert tuple(run.particles.tokens(0))[-2:] == (1, EOS)  # its past may be another's
    assert run.cost.reward_calls > 0


def test_steps_that_end_for_all_at_once_have_no_reference():
    with pytest.raises(InvalidArgument, match=r"ess=0\.5 .*ess_threshold"):
        one((0, EOS), step=Step(ess=0.5))


def test_a_reference_without_weight_is_refused():
    never = Tilt(FunctionReward(lambda texts: [-np.inf if t else 0.0 for t in texts]))
    with pytest.raises(InvalidArgument, match="positive probability"):
        one((0, EOS), never)


def test_a_reference_of_another_model_is_refused():
    """Cut off before its end, at another limit, or in other steps."""
    engine = ToyEngine(1)
    model = TextModel(engine, ["a"], REWARD, "\n", 8, TOKENS)
    path = path_of([(0, 3, 1, EOS)], LINES, model)
    with pytest.raises(InvalidArgument, match="a path whose text has ended"):
        conditional_smc(model, 0, path[:2], 4, ancestor_sampling=True)
    cut = path_of([(0, 3)], LINES, TextModel(engine, ["a"], REWARD, "\n", 8, 2))
    with pytest.raises(
        InvalidArgument, match="a step after which the text is LENGTH, here RUNNING"
    ):
        conditional_smc(model, 0, cut, 4)


def test_a_reward_that_fails_on_a_joined_text_says_so():
    """The reference's end behind another's line: a text that nobody has written yet."""
    reward = FunctionReward(lambda ts: [np.nan if "a\nb" in t else float(hash(t) % 7) for t in ts])
    model = TextModel(ToyEngine(1), ["a"] * 30, reward, "\n", 8, TOKENS)
    path = path_of([(1, 3, 1, EOS)] * 30, LINES, model)
    with pytest.raises(RewardError, match="goes on like the reference"):
        conditional_smc(model, 0, path, 4, ancestor_sampling=True)
