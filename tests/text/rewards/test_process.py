"""Process rewards read as texts grow agree with reading the whole text by the model card."""

import numpy as np
import pytest
import torch
import transformers as tf

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument, ModelError, UnknownName
from smcgen.text.rewards import FORMATS, ClassifierReward, ProcessReward, StepFormat
from smcgen.text.rewards.formats import detect_format
from smcgen.text.texts import Finish
from tests.text.build import build, recurrent
from tests.text.rewards._prms import NAMES, POLICY, byte_level, reference
from tests.text.rewards._texts import Writer

PROMPTS = ["So 1+2? a", "Step on a plane.", "So 1+2? a"]
STEPS = ["Step 1. ab\n\n", "a\nab 1+1=2\n\n", "1é2.\n\n", " ab a.\n\n", "no\n\n"]


def open_reward(ref, writer, meter=None, **kw):
    form = None if ref.name.startswith("token") else ref.name
    tokenizer = None if form is None else ref.tokenizer
    part = ProcessReward(ref.model, tokenizer, form, **kw)
    return part.open_reward(writer.prompts, writer.n, POLICY, meter or Meter())


def read_steps(ref, writer, row):
    """The steps of a row as the reference takes them."""
    steps = writer.steps[row]
    return steps if ref.name.startswith("token") else [POLICY.decode(s) for s in steps]


@pytest.mark.parametrize("batch_size", [None, 3])
@pytest.mark.parametrize("name", NAMES)
def test_incremental_equals_recomputation(name, batch_size):
    rng = np.random.default_rng(0)
    ref, meter = reference(name), Meter()
    n = 3
    writer = Writer(PROMPTS, n, POLICY)
    session = open_reward(ref, writer, meter, batch_size=batch_size)
    ids = ref.ids
    prefilled = meter.read().reward_tokens
    # where each row was read to, last of all what its cache holds
    held = [(0,)] * len(writer.steps)
    expected, calls = 0, 0
    alive = np.ones(len(held), bool)
    for _ in range(9):
        rows = rng.permutation(np.flatnonzero(alive))[: rng.integers(1, alive.sum() + 1)]
        for row in rows:  # some rows grow by several steps between two scores
            for _ in range(rng.integers(1, 4)):
                writer.add(row, STEPS[rng.integers(len(STEPS))])
        scores, read = session.score(writer.texts(), rows), set()
        for row, score in zip(rows, scores, strict=True):
            prompt = writer.prompts[row // n]
            steps = read_steps(ref, writer, row)
            assert score == pytest.approx(ref.score(prompt, steps), abs=2e-5)
            text = ids(prompt, steps)
            if (held[row], *text) not in read:  # of equal texts one is read
                read.add((held[row], *text))
                expected += len(text) - (held[row][-1] or len(prompt_ids(ref, prompt)))
                calls += 1
            held[row] = (*held[row], len(text))
        dropped = rng.choice(np.flatnonzero(alive), 1)
        session.drop(dropped)
        alive[dropped] = False
        ancestors = np.concatenate([_parents(rng, alive, p, n) for p in range(len(PROMPTS))])
        session.take(ancestors)
        writer.take(ancestors)
        held, alive = [held[a] for a in ancestors], alive[ancestors]
    cost = meter.read()
    assert cost.reward_tokens - prefilled == expected
    assert cost.reward_calls == calls
    # Equal prompts are read once.
    assert prefilled == sum(len(prompt_ids(ref, p)) for p in writer.prompts[:2])


def test_of_equal_texts_one_is_read():
    """Eight particles that write one of two steps each time, with nobody resampled."""
    ref, meter = reference("token-1"), Meter()
    writer = Writer(PROMPTS[:1], 8, POLICY)
    session, rows = open_reward(ref, writer, meter), np.arange(8)
    for step in range(3):
        for row in rows:
            writer.add(row, STEPS[(row >> step) % 2])
        scores = session.score(writer.texts(), rows)
        wanted = [ref.score(writer.prompts[0], read_steps(ref, writer, row)) for row in rows]
        assert scores == pytest.approx(wanted, abs=2e-5)
    assert meter.read().reward_calls == 2 + 4 + 8
    # and they go on apart
    writer.add(0, STEPS[2])
    session.score(writer.texts(), rows)
    assert meter.read().reward_calls == 2 + 4 + 8 + 1


@pytest.mark.parametrize("name", NAMES)
def test_a_rewound_session_is_as_if_it_had_not_been_asked(name):
    """As ancestor sampling asks: about texts that nobody has written."""
    ref, writer = reference(name), Writer(PROMPTS[:1], 3, POLICY)
    session, (prompt,) = open_reward(ref, writer), writer.prompts
    for k in range(4):
        for row in range(3):
            writer.add(row, STEPS[(2 * k + row) % len(STEPS)])
        mark, rows = session.mark(), np.array([0, 2])
        ahead = writer.ahead(rows, STEPS[k])
        for row, score in zip(rows, session.score(ahead.texts(), rows), strict=True):
            assert score == pytest.approx(ref.score(prompt, read_steps(ref, ahead, row)), abs=2e-5)
        session.rewind(mark)
        if k % 2:  # now and then nothing is asked in between
            scores = session.score(writer.texts(), np.arange(3))
            steps = [read_steps(ref, writer, row) for row in range(3)]
            assert scores == pytest.approx([ref.score(prompt, s) for s in steps], abs=2e-5)
            session.take(np.array([1, 1, 2]))
            writer.take(np.array([1, 1, 2]))


def _parents(rng, alive, problem, n):
    rows = np.arange(problem * n, problem * n + n)
    living = rows[alive[rows]]
    return rng.choice(living if len(living) else rows, n)


def prompt_ids(ref, prompt):
    """What comes before the first step: where two solutions begin to differ."""
    if ref.name.startswith("token"):
        return list(prompt.ids)
    a, b = (ref.ids(prompt, [s]) for s in ("a", "1"))
    common = next(k for k, (x, y) in enumerate(zip(a, b, strict=False)) if x != y)
    # A space that opens the step in both is the step's.
    space = ref.name == "rlhflow" and ref.tokenizer.convert_ids_to_tokens(a[common - 1]) == "Ġ"
    return a[: common - space]


def test_a_character_split_over_two_steps():
    ref = reference("qwen")
    writer = Writer(PROMPTS[:1], 2, POLICY)
    session = open_reward(ref, writer)
    first, second = POLICY("é")["input_ids"]
    for row in range(2):
        writer.add(row, [*POLICY("ab")["input_ids"], first])
    session.score(writer.texts(), np.arange(2))
    session.take(np.asarray([1, 1]))
    writer.add(0, [second, *POLICY("1")["input_ids"]])
    writer.add(1, POLICY("2")["input_ids"], Finish.EOS)
    scores = session.score(writer.texts(), np.arange(2))
    prompt = writer.prompts[0]
    assert scores[0] == pytest.approx(ref.score(prompt, ["ab", "é1"]), abs=2e-5)
    assert scores[1] == pytest.approx(ref.score(prompt, ["ab", "\ufffd2"]), abs=2e-5)


def test_an_empty_last_step_keeps_the_score_and_asks_nothing():
    ref, meter = reference("qwen"), Meter()
    writer = Writer(PROMPTS[:1], 2, POLICY)
    session = open_reward(ref, writer, meter)
    for row in range(2):
        writer.add(row, "ab\n\n")
    before = session.score(writer.texts(), np.arange(2))
    cost = meter.read()
    writer.add(0, [POLICY.eos_token_id], Finish.EOS)
    assert session.score(writer.texts(), np.asarray([0])) == before[0]
    assert session.score(writer.texts(), np.asarray([0])) == before[0]
    assert meter.read().reward_tokens == cost.reward_tokens
    assert meter.read().reward_calls == cost.reward_calls == 1


def test_a_text_that_is_empty_from_the_start_has_a_score():
    for name in ("qwen", "math-shepherd", "rlhflow"):
        ref = reference(name)
        writer = Writer(PROMPTS[:1], 1, POLICY)
        session = open_reward(ref, writer)
        writer.add(0, [POLICY.eos_token_id], Finish.EOS)
        assert 0 < session.score(writer.texts(), np.asarray([0]))[0] < 1


def test_a_policy_cannot_write_the_tag():
    ref = reference("qwen")
    writer = Writer(PROMPTS[:1], 1, POLICY)
    session = open_reward(ref, writer)
    writer.add(0, "ab<extra_0>")
    tag = ref.tokenizer.convert_tokens_to_ids("<extra_0>")
    assert session._encoder.step("ab<extra_0>", 0).count(tag) == 1
    assert session.score(writer.texts(), np.asarray([0]))[0] != pytest.approx(
        ref.score(writer.prompts[0], ["ab<extra_0>"]), abs=1e-4
    )


@pytest.mark.parametrize(
    ("classes", "name", "expected"),
    [
        (["Qwen2ForProcessRewardModel"], "any", "qwen"),
        (["Qwen2ForPrmModel"], "any", "skywork"),
        (["Qwen2ForCausalLM"], "Skywork/Skywork-o1-Open-PRM-Qwen-2.5-7B", "skywork"),
        (["MistralForCausalLM"], "peiyi9979/math-shepherd-mistral-7b-prm", "math-shepherd"),
        (["LlamaForCausalLM"], "RLHFlow/Llama3.1-8B-PRM-Deepseek-Data", "rlhflow"),
        (["LlamaForTokenClassification"], "", "token"),
        (["LlamaForSequenceClassification"], "", "token"),
    ],
)
def test_detection(classes, name, expected):
    assert detect_format(classes, name) is FORMATS[expected]


@pytest.mark.parametrize("name", ["qwen", "skywork", "math-shepherd", "token-1"])
def test_saved_models_load_with_their_format(tmp_path, name):
    ref = reference(name)
    folder = tmp_path / name
    ref.model.save_pretrained(folder)
    ref.tokenizer.save_pretrained(folder)
    part = ProcessReward(folder)
    assert part.format is FORMATS[name.split("-1")[0]]
    assert part.probability
    writer = Writer(PROMPTS[:1], 1, POLICY)
    session = part.open_reward(writer.prompts, 1, POLICY, Meter())
    writer.add(0, STEPS[0])
    wanted = ref.score(writer.prompts[0], read_steps(ref, writer, 0))
    assert session.score(writer.texts(), np.asarray([0]))[0] == pytest.approx(wanted, abs=2e-5)


def test_language_models_answer_by_words_on_the_policys_tokens():
    model = build(tf.LlamaForCausalLM, len(POLICY))
    form = StepFormat("mine", "ids", words=("1", "0"))
    writer = Writer(["ab"], 1, POLICY)
    session = ProcessReward(model, format=form).open_reward(writer.prompts, 1, POLICY, Meter())
    writer.add(0, "1+1")
    with torch.inference_mode():
        out = model(torch.tensor([[*writer.prompts[0].ids, *writer.steps[0][0]]])).logits[0, -1]
    good, bad = (POLICY(w)["input_ids"][0] for w in "10")
    wanted = float(out[[good, bad]].softmax(-1)[0])
    assert session.score(writer.texts(), np.asarray([0]))[0] == pytest.approx(wanted, abs=2e-5)


def test_what_does_not_fit_says_so(tmp_path):
    llama = build(tf.LlamaForCausalLM, len(POLICY))
    with pytest.raises(InvalidArgument, match="does not say"):
        ProcessReward(llama)
    with pytest.raises(UnknownName, match="'math-shepherd'"):
        ProcessReward(llama, format="shepherd")
    qwen = reference("qwen")
    open_ = lambda part: part.open_reward(
        Writer(["a"], 1, POLICY).prompts, 1, POLICY, Meter()
    )  # fmt: skip
    with pytest.raises(InvalidArgument, match="chat template"):
        open_(ProcessReward(qwen.model, byte_level(("<extra_0>",)), "qwen"))
    with pytest.raises(InvalidArgument, match="token '<extra_0>'"):
        open_(ProcessReward(qwen.model, POLICY, "qwen"))
    with pytest.raises(InvalidArgument, match="vocabulary is not the policy's"):
        open_(ProcessReward(reference("token-1").model, byte_level(), None))
    small = build(tf.LlamaForTokenClassification, 8, num_labels=1)
    with pytest.raises(InvalidArgument, match="of 8 tokens"):
        open_(ProcessReward(small))
    three = build(tf.LlamaForTokenClassification, len(POLICY), num_labels=3)
    session = open_(ProcessReward(three))
    writer = Writer(["a"], 1, POLICY)
    writer.add(0, "b")
    with pytest.raises(InvalidArgument, match="3 outputs"):
        session.score(writer.texts(), np.asarray([0]))
    with pytest.raises(ModelError):
        open_(
            ProcessReward(
                recurrent(len(POLICY)), format=StepFormat("mine", "ids", words=("1", "0"))
            )
        )
    for kind in (ProcessReward, ClassifierReward):
        with pytest.raises(InvalidArgument, match="model='no/such-model'"):
            kind("no/such-model")
        with pytest.raises(InvalidArgument, match="model="):
            kind(tmp_path)
    llama.save_pretrained(tmp_path)
    with pytest.raises(InvalidArgument, match="trust_remote_code=True"):
        ProcessReward(tmp_path, format="token")


@pytest.mark.parametrize(
    "kwargs", [{"chat": "ids", "tag": "x"}, {"chat": "none"}, {"chat": "turns"}]
)
def test_bad_formats(kwargs):
    with pytest.raises(InvalidArgument):
        StepFormat("mine", **kwargs)


def test_closing_frees_the_cache():
    writer = Writer(PROMPTS, 2, POLICY)
    session = open_reward(reference("qwen"), writer)
    for row in range(6):
        writer.add(row, STEPS[0])
    session.score(writer.texts(), np.arange(6))
    assert session._population.nbytes > 0
    session.close()
    assert session._population.nbytes == 0
