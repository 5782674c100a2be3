"""Conditional SMC on real engines: given texts are weighed like drawn ones, and continuations like whole texts."""

import functools
import itertools
import re
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import pytest

from smcgen import conditional_smc, particle_gibbs
from smcgen.errors import InvalidArgument
from smcgen.text import Expert, FunctionReward, Regex, Sampling, TextModel, TokenMask
from smcgen.text.potentials.algebra import where
from smcgen.text.prompts import encode
from tests.text import tiny, vllm_tiny
from tests.text.engines.served import LocalEngine, Server, serving, toy
from tests.text.engines.test_remote import remote
from tests.text.paths import Text, assert_invariant, check_log_continue, flat, path_of

TOKENS = 4
EOS = len(tiny.CHARACTERS)
PROMPTS = ["a.", "b"]
LINES = lambda step: step[-1] == 3
ENDS: dict[Any, Callable] = {"\n": LINES, 1: lambda step: True}
ON_VLLM = pytest.param("vllm", marks=[vllm_tiny.needs_vllm, pytest.mark.slow])
REMOTE = functools.cache(lambda: LocalEngine(toy(3)))


def engine_of(name: str) -> Any:
    return {"transformers": tiny.engine, "vllm": vllm_tiny.engine, "requests": REMOTE}[name]()


def text_of(ids) -> str:
    return "".join(tiny.CHARACTERS[i] for i in ids if i < EOS)


def complete_texts() -> list[Text]:
    """All texts of at most TOKENS tokens, ended or cut off."""
    found: list[Text] = []
    for length in range(TOKENS + 1):
        every = itertools.product(range(EOS), repeat=length)
        found += [ids if length == TOKENS else (*ids, EOS) for ids in every]
    return found


@functools.cache
def table(name: str, prompt: str, sampling: Sampling = Sampling(), seed: int = 0) -> dict:
    """log p of every text and of every beginning of one."""
    engine = tiny.engine(seed) if seed else engine_of(name)
    texts = complete_texts()
    prompts = [encode(engine.tokenizer, prompt)] * len(texts)
    scored = engine.score(prompts, [list(t) for t in texts], sampling)
    known: dict[Text, float] = {(): 0.0}
    for ids, logs in zip(texts, scored, strict=True):
        known |= {ids[: k + 1]: float(logs[: k + 1].sum()) for k in range(len(ids))}
    return known


def tilt(texts):
    return [0.9 * t.count("a") - 0.6 * t.count(".") for t in texts]


def log_tilt(steps):
    return tilt([text_of(flat(steps))])[0]


def matches(pattern: str) -> Callable[[int, Text], float]:
    """log phi of a whole text that must match; of its beginnings it is not asked."""

    def log_phi(problem: int, ids: Text) -> float:
        whole = len(ids) == TOKENS or (ids and ids[-1] == EOS)
        return 0.0 if not whole or re.fullmatch(pattern, text_of(ids)) else -np.inf

    return log_phi


def by_expert(strength: float) -> Callable[[int, Text], float]:
    return lambda problem, ids: strength * table("", PROMPTS[problem], seed=5)[ids]


EXPERT = Expert(tiny.llama(5), 0.7, tiny.tokenizer())
NO_PAIRS = TokenMask(lambda texts: [[i for i in range(EOS + 1) if [i] != t[-1:]] for t in texts])
FACTORS: dict[str, tuple[Any, Callable[[int, Text], float]]] = {
    "nothing": (None, lambda problem, ids: 0.0),
    "a regex": (Regex(r"[ab\n]*"), matches(r"[ab\n]*")),
    "a mask": (
        NO_PAIRS,
        lambda problem, ids: -np.inf if any(a == b for a, b in itertools.pairwise(ids)) else 0.0,
    ),
    "an expert": (EXPERT, by_expert(0.7)),
    "an expert for one prompt": (
        where(lambda prompt: prompt == "b", EXPERT**2),
        lambda problem, ids: by_expert(1.4)(problem, ids) if problem else 0.0,
    ),
}
REFERENCES: list[Text] = [(0, 3, 1, EOS), (1, 3, 0, 1)]
CASES = [("requests", "nothing"), *itertools.product(["transformers", "vllm"], FACTORS)]


@pytest.mark.parametrize("step", ENDS, ids=["lines", "tokens"])
@pytest.mark.parametrize(
    ("name", "factor"),
    [pytest.param(n, f, marks=ON_VLLM.marks if n == "vllm" else ()) for n, f in CASES],
)
def test_a_continuation_has_the_law_of_the_whole_text(name, factor, step):
    constraint, log_phi = FACTORS[factor]
    reward = FunctionReward(tilt)
    potential = reward if constraint is None else reward * constraint
    model = TextModel(engine_of(name), PROMPTS, potential, step, None, TOKENS)
    log_p = lambda b, ids: table(name, PROMPTS[b])[tuple(ids)] + log_phi(b, tuple(ids))
    assert check_log_continue(model, REFERENCES, ENDS[step], log_p, log_tilt) > 5


@pytest.mark.parametrize("name", ["transformers", ON_VLLM])
def test_under_a_law_that_is_not_the_models_own(name):
    sampling = Sampling(0.7)
    model = TextModel(
        engine_of(name), PROMPTS, FunctionReward(tilt), 1, None, TOKENS, sampling, Sampling(1.3)
    )
    log_p = lambda b, ids: table(name, PROMPTS[b], sampling)[tuple(ids)]
    assert check_log_continue(model, REFERENCES, ENDS[1], log_p, log_tilt) > 5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "step", "runs"),
    [("transformers", "\n", 600), ("transformers", 1, 600), ("requests", 1, 300)],
)
def test_sweeps_leave_the_posterior_as_it_is(name, step, runs):
    """A constraint and a tilt, two particles, a new past for the reference."""
    pattern, constrained = r"[ab]*\n?.?", name == "transformers"
    log_phi = matches(pattern) if constrained else FACTORS["nothing"][1]
    law = {
        ids: np.exp(lp + log_phi(0, ids) + log_tilt([list(ids)]))
        for ids, lp in table(name, "a.").items()
        if ids and (ids[-1] == EOS or len(ids) == TOKENS)
    }
    law = {ids: w for ids, w in law.items() if w > 0}
    reward = FunctionReward(tilt)
    potential = reward * Regex(pattern) if constrained else reward
    model = TextModel(engine_of(name), ["a."] * runs, potential, step, None, TOKENS)
    assert_invariant(model, law, ENDS[step], 2, ancestor_sampling=True)


@pytest.mark.slow
@vllm_tiny.needs_vllm
@pytest.mark.parametrize("step", ["\n", 3, 1])
def test_vllm_does_what_transformers_does(step):
    """The same sweeps, particle by particle, of longer texts."""
    runs = []
    for engine in (vllm_tiny.twin(), vllm_tiny.engine()):
        potential = vllm_tiny.TILT * Regex(r"[ab.\n]*", incomplete="allow")
        model = TextModel(engine, ["ab.", "b"], potential, step, None, 20)
        ids: list[Text] = [(0, 1, 3, 1, 1, 2, 0, EOS), (1, 0, 2, 2, 3, 3, 0, 0, 1, 1, EOS)]
        ends = {"\n": LINES, 3: lambda s: len(s) == 3, 1: lambda s: True}[step]
        path = path_of(ids, ends, model)
        runs.append(conditional_smc(model, 3, path, 8, ancestor_sampling=True))
    vllm_tiny.assert_same(*runs)
    assert (np.asarray(runs[0].ancestors)[:, :, 0] != 0).any()


@pytest.mark.slow
def test_particle_gibbs_on_an_engine():
    """Of one prompt, on the engine that is asked; a chain's text is one that the model can write."""
    model = TextModel(REMOTE(), "a.", FunctionReward(tilt), 1, max_tokens=TOKENS)
    chains = particle_gibbs(model, 1, 2, 2)
    assert set(chains.map(model.text).ravel()) <= {text_of(ids) for ids in complete_texts()}


@pytest.mark.slow
@vllm_tiny.needs_vllm
def test_particle_gibbs_on_vllm_is_that_on_transformers():
    texts = []
    for engine in (vllm_tiny.twin(), vllm_tiny.engine()):
        model = TextModel(engine, "ab.", vllm_tiny.TILT, 3, max_tokens=20)
        chains = particle_gibbs(model, 2, 3, 4, n_chains=2)
        texts.append(chains.map(model.text).tolist())
        assert chains.update_rate.max() > 0
    assert texts[0] == texts[1]


@pytest.mark.slow
@vllm_tiny.needs_vllm
def test_on_vllm_a_continuation_costs_its_own_tokens():
    """Behind each different text a copy of its request computes the latest token and what follows, no more."""
    model = TextModel(vllm_tiny.engine(), "ab.b.aab", None, 2, max_tokens=40)
    reference: Text = (0, 1, 3, 1, 1, 2, 0, EOS)
    path = [
        r._replace(tokens=r.tokens[0], finish=r.finish[0])
        for r in path_of([reference], lambda s: len(s) == 2, model)
    ]
    state, _ = model.init(jax.random.key(0), 16)
    state, _ = model.step(jax.random.key(1), 1, state)
    before = state.meter.read().tokens_prefilled
    model.log_continue(2, state, path)
    distinct = {tuple(state.texts.tokens(row)) for row in np.flatnonzero(~state.texts.ended)}
    assert 2 < len(distinct) < 16
    cost = state.meter.read().tokens_prefilled - before
    model.close(state)
    assert cost == len(distinct) * (1 + len(reference) - 2)


@pytest.mark.slow
def test_a_remote_engine_scores_what_goes_on():
    pytest.importorskip("httpx")
    with serving(Server(toy(3))) as server:
        engine = remote(server)
        model = TextModel(engine, PROMPTS, FunctionReward(tilt), 1, max_tokens=TOKENS)
        log_p = lambda b, ids: table("requests", PROMPTS[b])[tuple(ids)]
        assert check_log_continue(model, REFERENCES, ENDS[1], log_p, log_tilt) > 5
        one = TextModel(engine, "a.", FunctionReward(tilt), 1, max_tokens=TOKENS)
        chains = particle_gibbs(one, 1, 1, 2)
        assert chains.log_evidence.shape == (1, 1)
        engine.close()


@pytest.mark.slow
def test_engines_that_are_asked_score_under_the_models_own_law_alone():
    model = TextModel(REMOTE(), ["a."], FunctionReward(tilt), 1, None, TOKENS, Sampling(0.5))
    with pytest.raises(InvalidArgument, match=r"sampling=.*with a reference"):
        conditional_smc(model, 0, path_of([(0, 1, EOS)], ENDS[1], model), 2)
    model = TextModel(REMOTE(), ["a."], None, 1, None, TOKENS, proposal=Sampling(1.5))
    with pytest.raises(InvalidArgument, match=r"proposal=.*with a reference"):
        conditional_smc(model, 0, path_of([(0, 1, EOS)], ENDS[1], model), 2)


@pytest.mark.parametrize("name", ["transformers", "requests"])
def test_a_reference_whose_steps_end_elsewhere_is_refused(name):
    model = TextModel(engine_of(name), ["a."], FunctionReward(tilt), 2, None, TOKENS)
    for step, what in (
        (ENDS[1], "ends no step here"),
        (lambda s: len(s) == 3, "ends a step already"),
    ):
        with pytest.raises(InvalidArgument, match=what):
            conditional_smc(model, 0, path_of([(0, 1, 1, EOS)], step, model), 2)
    with pytest.raises(InvalidArgument, match=r"reference=99 .*token ids in \[0, 5\)"):
        conditional_smc(model, 0, path_of([(99, 1, 1, EOS)], lambda s: len(s) == 2, model), 2)
