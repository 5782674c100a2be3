"""Texts that end with a string: found across tokens and steps, weighed exactly, in conditional SMC too."""

import re

import numpy as np
import pytest

from smcgen import smc
from smcgen.errors import InvalidArgument
from smcgen.text import FunctionReward, Regex, TextModel
from smcgen.text.stops import StopStrings, Until, as_stops, before
from smcgen.text.texts import Finish
from tests.laws import assert_unbiased
from tests.text import tiny, vllm_tiny
from tests.text.engines.tokenizers import byte_level
from tests.text.paths import assert_invariant
from tests.text.toy import ToyEngine, ToyTokenizer

TOKENS, RUNS, STOP = 4, 1000, ("ab", "\n")


def text_of(ids) -> str:
    return ToyTokenizer().decode(ids)


def stopped(law):
    """The law of texts that are cut behind the first stop string."""
    found: dict = {}
    for ids, lp in law.items():
        ends = [k for k in range(1, len(ids) + 1) if text_of(ids[:k]).endswith(STOP)]
        kept = ids[: ends[0]] if ends else ids
        found[kept] = np.logaddexp(found.get(kept, -np.inf), lp)
    return found


def tilt(texts):
    return [0.8 * t.count("a") - 0.5 * t.count(".") for t in texts]


@pytest.mark.parametrize("step", [1, 2, "."])
def test_the_law_is_that_of_texts_cut_behind_the_string(step):
    engine = ToyEngine(5)
    law = stopped(engine.law(TOKENS))
    weights = {ids: np.exp(lp + tilt([text_of(ids)])[0]) for ids, lp in law.items()}
    model = TextModel(
        engine, ["a"] * RUNS, FunctionReward(tilt), step, None, TOKENS, stop=[*STOP, "ab"]
    )
    run = smc(model, 3, 4, ess_threshold=0.7)
    z = np.exp(np.asarray(run.log_evidence, np.float64))
    w, lengths = np.exp(np.asarray(run.log_weights, np.float64)), run.particles.lengths
    total = sum(weights.values())
    assert_unbiased(z / total, 1.0, "Z")
    phi = sum(q * len(ids) for ids, q in weights.items())
    assert_unbiased(z * (w * lengths.reshape(RUNS, 4)).sum(1) / phi, 1.0, "Z phi")
    assert set(map(tuple, map(run.particles.tokens, range(200)))) <= set(law)
    finish = run.particles.finish
    ends = [text_of(run.particles.tokens(r)).endswith(STOP) for r in range(len(finish))]
    np.testing.assert_array_equal(np.array(ends) & (finish != Finish.EOS), finish == Finish.STOP)


@pytest.mark.slow
def test_sweeps_leave_the_law_of_stopped_texts_as_it_is():
    engine = ToyEngine(6)
    law = stopped(engine.law(TOKENS))
    weights = {ids: np.exp(lp + tilt([text_of(ids)])[0]) for ids, lp in law.items()}
    model = TextModel(engine, ["a"] * 800, FunctionReward(tilt), 1, None, TOKENS, stop=STOP)
    assert_invariant(model, weights, lambda step: True, 2, ancestor_sampling=True)


@pytest.mark.parametrize(
    "name", ["transformers", pytest.param("vllm", marks=[pytest.mark.slow, vllm_tiny.needs_vllm])]
)
def test_engines_stop_where_the_text_does(name):
    """As the texts without a stop string, cut behind it; a constraint that is not met by then has weight zero."""
    engine = tiny.engine() if name == "transformers" else vllm_tiny.engine()
    options = {"step_rule": 3, "max_tokens": 20}
    free = smc(TextModel(engine, "ab", None, **options), 4, 16, ess_threshold=0.0).particles
    cut = smc(TextModel(engine, "ab", None, **options, stop="a."), 4, 16, ess_threshold=0.0)
    assert (cut.particles.finish == Finish.STOP).any()
    for row in range(16):
        whole = free.text(row)
        at = whole.find("a.")
        assert cut.particles.text(row) == (whole if at < 0 else whole[: at + 2])
    pattern = r"[ab]*\.[ab.\n]*"
    run = smc(TextModel(engine, "ab", Regex(pattern), **options, stop="bb"), 4, 32)
    ended = np.flatnonzero(run.particles.finish == Finish.STOP)
    weights = np.exp(np.asarray(run.log_weights))
    assert len(ended)
    for row in ended.tolist():
        assert (weights[row] > 0) == (re.fullmatch(pattern, run.particles.text(row)) is not None)


def test_a_resumed_run_looks_on_where_it_stood(tmp_path):
    model = TextModel(ToyEngine(5), "a", FunctionReward(tilt), 1, None, TOKENS, stop=STOP)
    whole = smc(model, 1, 16)
    keep = tmp_path / "run"

    def interrupt(told):
        if told.t == 1:
            raise KeyboardInterrupt

    smc(model, 1, 16, checkpoint=keep, callback=interrupt, on_error="return")
    resumed = smc(model, 1, 16, checkpoint=keep)
    np.testing.assert_array_equal(resumed.particles.ids, whole.particles.ids)


@pytest.mark.parametrize(
    "strings", [("é",), ("aé", "zz"), ("\n\n", "\n"), ("the end", "he", "end"), ("",)]
)
def test_strings_are_found_byte_by_byte(strings):
    """In a vocabulary of bytes, where characters are split over tokens, against `str.find`."""
    tokenizer = byte_level()
    if "" in strings:
        with pytest.raises(InvalidArgument, match="stop"):
            TextModel(ToyEngine(0), "a", stop=strings)
        with pytest.raises(InvalidArgument, match="stop=3"):
            as_stops(3)
        return
    rng = np.random.default_rng(0)
    pieces = ["é", "a", "z", "\n", "the", " end", "h", "e", " ", "n", "d"]
    for _ in range(40):
        text = "".join(rng.choice(pieces, 12))
        ids = tokenizer(text)["input_ids"]
        until = Until(StopStrings(strings, tokenizer), np.zeros(1, np.int64))
        ends = [k for k, i in enumerate(ids) if until.push(np.zeros(1, int), np.array([i]))[0]]
        found = [at + len(s) for s in strings if (at := text.find(s)) >= 0]
        assert bool(ends) == bool(found)
        if ends:  # the string that is complete first counts, wherever a longer one began
            written = tokenizer.decode(ids[: ends[0] + 1])
            assert before(written, strings) == before(text[: min(found)], strings)
            assert before(tokenizer.decode(ids[: ends[0]]), strings) == tokenizer.decode(
                ids[: ends[0]]
            )
