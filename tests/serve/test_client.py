"""What an OpenAI client gets: steered answers, whole or streamed, reproducible by seed."""

import json
from typing import Any

import httpx
import openai
import pytest

import smcgen
from smcgen.serve.strategies import STRATEGIES
from smcgen.text import FunctionReward
from tests.serve import running

PROMPT = "Q:12+34*5\n"
HELLO = [{"role": "user", "content": "ab."}]


def complete(server, prompt=PROMPT, model="tape", **options):
    fields = {"seed": 3, "extra_body": {}} | options
    return running.client(server).completions.create(model=model, prompt=prompt, **fields)


def ask(server, **options):
    fields = {"seed": 3} | options
    return running.client(server).chat.completions.create(model="m", messages=HELLO, **fields)


def test_completion_is_what_steer_gives(tape):
    direct = smcgen.steer(
        PROMPT,
        model=running.tape()["engine"],
        reward=running.tape()["reward"],
        n_particles=4,
        key=3,
        max_tokens=64,
        answer=running.ANSWER,
    )
    reply = complete(tape)
    (choice,) = reply.choices
    assert choice.text in direct.texts
    assert direct.extract(choice.text) == direct.answer
    assert choice.finish_reason == "stop"
    ours = reply.model_extra["smcgen"]
    assert ours["strategy"] == "particle-filter"
    assert ours["status"] == "OK"
    assert ours["log_evidence"] == pytest.approx(direct.log_evidence, abs=1e-4)
    assert ours["answers"] == pytest.approx(dict(direct.answers()), abs=1e-4)
    assert ours["cost"]["tokens_generated"] == direct.cost.tokens_generated
    row = direct.texts.index(choice.text)
    assert reply.usage.prompt_tokens == len(direct.prompt.ids)
    assert reply.usage.completion_tokens == direct.population.lengths[row]


def test_chat(chat):
    reply = ask(chat, max_completion_tokens=6)
    (choice,) = reply.choices
    assert choice.message.role == "assistant"
    assert set(choice.message.content) <= set("ab.\n")
    assert reply.usage.completion_tokens <= 6
    assert reply.model_extra["smcgen"]["answers"] is None  # the server has no extractor
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b."}]
    messages = [{"role": "user", "content": parts}]
    split = running.client(chat).chat.completions.create(
        model="m", messages=messages, seed=3, max_tokens=6
    )
    assert split.choices == reply.choices


def test_without_a_seed_the_reply_names_the_one_it_drew(chat):
    first = ask(chat, seed=None)
    again = ask(chat, seed=first.model_extra["smcgen"]["seed"])
    assert again.choices == first.choices


@pytest.mark.slow
@pytest.mark.parametrize("n", [1, 3])
def test_a_streamed_chat_is_the_whole_one(chat, n):
    whole = ask(chat, n=n)
    chunks = list(ask(chat, n=n, stream=True, stream_options={"include_usage": True}))
    texts, finish = [""] * n, [None] * n
    for chunk in chunks:
        assert chunk.object == "chat.completion.chunk"
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            finish[choice.index] = choice.finish_reason
    assert texts == [choice.message.content for choice in whole.choices]
    assert finish == [choice.finish_reason for choice in whole.choices]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert [c.usage for c in chunks[:-1]] == [None] * (len(chunks) - 1)
    ours = chunks[-2].model_extra["smcgen"]
    assert ours["log_evidence"] == whole.model_extra["smcgen"]["log_evidence"]


@pytest.mark.slow
def test_a_streamed_completion_is_the_whole_one(tape):
    whole = complete(tape)
    chunks = list(complete(tape, stream=True))
    assert "".join(chunk.choices[0].text for chunk in chunks) == whole.choices[0].text
    assert len(chunks) > 2  # a line each
    assert all(chunk.usage is None for chunk in chunks)


def test_events_as_they_are_on_the_wire(chat):
    body = {"model": "m", "messages": HELLO, "stream": True}
    got = httpx.post(f"{running.url(chat)}/v1/chat/completions", json=body, timeout=60)
    assert got.headers["content-type"].startswith("text/event-stream")
    events = got.text.split("\n\n")
    assert events[0].startswith(":")
    data = [event.removeprefix("data: ") for event in events if event.startswith("data: ")]
    assert data[-1] == "[DONE]"
    chunks = [json.loads(one) for one in data[:-1]]
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert chunks[-1]["choices"][0]["delta"] == {}
    assert len({chunk["id"] for chunk in chunks}) == 1


USUAL = ("sample", "best-of-n", "weighted-best-of-n", "majority", "particle-filter")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in USUAL else pytest.mark.slow) for n in STRATEGIES]
)
def test_strategies(tape, name):
    reply = complete(tape, extra_body={"strategy": name})
    ours = reply.model_extra["smcgen"]
    assert ours["strategy"] == name
    assert ours["n_particles"] == (1 if name == "sample" else 4)
    assert running.ANSWER[0] in reply.choices[0].text
    assert (ours["cost"]["reward_calls"] > 0) == STRATEGIES[name].needs_reward
    if STRATEGIES[name].needs_answer or name == "particle-filter":
        assert reply.choices[0].text.endswith(f"A:{ours['answer']}")


@pytest.mark.slow
def test_best_of_n_is_the_best_of_independent_texts(tape):
    direct = smcgen.steer(
        PROMPT,
        model=running.tape()["engine"],
        reward=running.tape()["reward"],
        n_particles=4,
        key=3,
        max_tokens=64,
        twist="none",
        ess_threshold=0.0,
    )
    reply = complete(tape, extra_body={"strategy": "best-of-n"}, n=2)
    assert reply.choices[0].text == direct.best
    texts = sorted(set(direct.texts), key=lambda text: -direct.scores[direct.texts.index(text)])
    assert [choice.text for choice in reply.choices] == texts[:2]


def test_a_budget_buys_particles(tape):
    reply = complete(tape, max_tokens=30, extra_body={"budget": 149})
    ours = reply.model_extra["smcgen"]
    assert ours["n_particles"] == 4
    assert ours["cost"]["tokens_generated"] <= 149


def test_a_budget_counts_the_room_that_a_short_model_has():
    """The server allows far longer texts than this model's context of 128 tokens."""
    reward = FunctionReward(lambda texts: [0.1 * text.count("a") for text in texts])
    settings = running.config(engine=running.chatty(), reward=reward, step=8, max_tokens=1024)
    assert settings.engine.max_length == 128
    prompt = [0] * 68  # which leaves room for 60
    with running.serving(settings) as server:
        for fields, particles in (({}, 3), ({"max_tokens": 500}, 3), ({"max_tokens": 20}, 9)):
            options = {"model": "m", "prompt": prompt, "extra_body": {"budget": 199}}
            reply = running.client(server).completions.create(**options, **fields)
            ours = reply.model_extra["smcgen"]
            assert ours["n_particles"] == particles
            assert ours["cost"]["tokens_generated"] <= 199
        with pytest.raises(openai.BadRequestError, match="budget=59.*at least max_tokens=60"):
            running.client(server).completions.create(**options | {"extra_body": {"budget": 59}})


def test_models_and_health(tape):
    (model,) = running.client(tape).models.list().data
    assert model == running.client(tape).models.retrieve("tape")
    assert model.id == "tape"
    assert model.model_extra["smcgen"]["strategies"] == list(STRATEGIES)
    assert httpx.get(f"{running.url(tape)}/health").json() == {
        "status": "ok",
        "running": 0,
        "waiting": 0,
    }


def plain(server, **options) -> Any:
    """One text of the model itself, whatever the reward; longer than the server's default."""
    fields = {"seed": 5, "max_tokens": 12, "extra_body": {"strategy": "sample"}} | options
    return running.client(server).completions.create(model="m", prompt="ab.", **fields)


@pytest.mark.slow
def test_a_text_ends_before_the_first_stop_string(chat):
    """Characters are tokens here: two of them are a string that spans tokens."""
    for seed in range(6):
        (whole,) = plain(chat, seed=seed).choices
        for stop in (whole.text[4:6], [whole.text[5:8], "never"], [whole.text[2:3]] * 2):
            if not stop or not stop[0]:
                continue
            (choice,) = plain(chat, seed=seed, stop=stop).choices
            strings = [stop] if isinstance(stop, str) else stop
            first = min(at for at in map(whole.text.find, strings) if at >= 0)
            assert choice.text == whole.text[:first]
            assert choice.finish_reason == "stop"
    (never,) = plain(chat, stop="aaaaaaaaaaaaa").choices
    assert never == plain(chat).choices[0]
    (never,) = plain(chat, stop=[]).choices
    assert never == plain(chat).choices[0]


@pytest.mark.parametrize("step", [1, 3])
def test_steered_texts_stop_across_steps_and_are_streamed_so(chat, step):
    """With steps of a token a string of two always spans steps; copies that differ behind it are one text."""
    stop, ours = ["b.", "\na"], {"n_particles": 8, "step": step, "strategy": "particle-filter"}
    fields = {"stop": stop, "n": 3, "max_tokens": 12, "extra_body": ours, "seed": 2}
    whole = ask(chat, **fields)
    texts = [choice.message.content for choice in whole.choices]
    assert not any(s in text for s in stop for text in texts)
    assert len(set(texts)) == len(texts)
    assert {choice.finish_reason for choice in whole.choices} <= {"stop", "length"}
    streamed = [""] * 3
    for chunk in ask(chat, **fields, stream=True):
        for choice in chunk.choices:
            streamed[choice.index] += choice.delta.content or ""
    assert streamed == texts
