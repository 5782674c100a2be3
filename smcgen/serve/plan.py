"""From a request to a `Steering`: what it says is checked against the server's limits, the rest is filled in."""

import secrets
from typing import Any

from jinja2 import TemplateError

from smcgen.errors import InvalidArgument
from smcgen.serve.config import Config
from smcgen.serve.failures import APIError
from smcgen.serve.schema import Ask
from smcgen.serve.steering import Steering
from smcgen.serve.strategies import Strategy, find
from smcgen.text.prompts import Prompt, encode
from smcgen.text.stops import as_stops

_OURS = ("n_particles", "budget", "strength", "step", "ess_threshold")
_NOTCHES = 20  # a threshold is compiled into the resampling kernel: only so many are ever made


def plan(config: Config, ask: Ask) -> Steering:
    """A request, ready to run.

    Raises:
        InvalidArgument: a field is not allowed, or not by this server.
        APIError: the model is not the one that is served, or the prompt does not fit it.
    """
    check_model(config, ask.model)
    name = ask.strategy or str(config.strategy)
    strategy = find(name, config.reward, config.answer)
    for field in _OURS:
        value = getattr(ask, field)
        if value is not None and field not in strategy.uses:
            raise InvalidArgument(field, value, f"no {field} with strategy {name!r}")
    max_tokens = _at_most("max_tokens", ask.tokens, config.max_tokens) or config.max_tokens
    prompt = _prompt(config, ask)
    # a text ends where the model's context does: it costs no more than that
    most = min(max_tokens, config.engine.max_length - len(prompt.ids))
    choices = ask.n or 1
    given = lambda field: _given(ask, config, field)
    return Steering(
        engine=config.engine,
        reward=config.reward,
        extract=config.answer,  # pyright: ignore[reportArgumentType]  (a function by now)
        prompt=prompt,
        strategy=name,
        choices=choices,
        n_particles=_particles(config, ask, strategy, choices, most),
        tokens=ask.budget,
        seed=secrets.randbits(32) if ask.seed is None else ask.seed,
        options={
            "max_tokens": most,
            "temperature": given("temperature"),
            "top_p": given("top_p"),
            "top_k": given("top_k"),
            "strength": given("strength"),
            "step": _step(config, ask, max_tokens),
            "ess_threshold": _threshold(config, ask),
            "stop": as_stops(ask.stop or ()),
        },
    )


def check_model(config: Config, name: str) -> None:
    """Raise if this is not the model that is served."""
    if name != config.model:
        message = f"model={name[:80]!r} is not served here: expected {config.model!r}"
        raise APIError(404, message, param="model", code="model_not_found")


def _particles(config: Config, ask: Ask, strategy: Strategy, choices: int, most: int) -> int:
    if "n_particles" not in strategy.uses:  # as many texts as are asked for
        _at_most("n", choices, config.max_particles)
        return choices
    if ask.n_particles is not None and ask.budget is not None:
        raise InvalidArgument("budget", ask.budget, "either budget or n_particles")
    count = config.n_particles if ask.n_particles is None else ask.n_particles
    if ask.budget is not None:
        if ask.budget < most:
            allowed = f"at least max_tokens={most}, the most tokens that one text can have here"
            raise InvalidArgument("budget", ask.budget, allowed)
        count = min(ask.budget // most, config.max_particles)
    _at_most("n_particles", count, config.max_particles)
    if choices > count:
        raise InvalidArgument("n", choices, f"at most n_particles={count}")
    return count


def _step(config: Config, ask: Ask, max_tokens: int) -> Any:
    if ask.step is None:
        return config.step
    if isinstance(ask.step, int):
        _at_most("step", ask.step, max_tokens)
    elif ask.step not in config.steps and ask.step != config.step:
        known = ", ".join(map(repr, config.steps))
        raise InvalidArgument("step", ask.step[:80], f"a number of tokens, or one of {known}")
    return ask.step


def _threshold(config: Config, ask: Ask) -> float:
    if ask.ess_threshold is None:
        return config.ess_threshold
    notch = round(ask.ess_threshold * _NOTCHES)
    if abs(ask.ess_threshold * _NOTCHES - notch) > 1e-6:
        raise InvalidArgument("ess_threshold", ask.ess_threshold, f"a multiple of {1 / _NOTCHES}")
    return notch / _NOTCHES


def _prompt(config: Config, ask: Ask) -> Prompt:
    field = "messages" if "messages" in type(ask).model_fields else "prompt"
    try:
        prompt = encode(config.engine.tokenizer, ask.content())
    except InvalidArgument as error:
        hint = ""
        if field == "messages" and not getattr(config.engine.tokenizer, "chat_template", None):
            hint = "; send text to /v1/completions"
        raise APIError(400, f"{field}: expected {error.allowed}{hint}", param=field) from error
    except TemplateError as error:
        message = f"{field}: the model's chat template refuses it: {error}"
        raise APIError(400, message, param=field) from error
    if len(prompt.ids) >= config.engine.max_length:
        message = f"{field}: {len(prompt.ids)} tokens; expected fewer than the model's {config.engine.max_length}"
        raise APIError(400, message, param=field, code="context_length_exceeded")
    return prompt


def _given(ask: Ask, config: Config, field: str) -> Any:
    value = getattr(ask, field)
    return getattr(config, field) if value is None else value


def _at_most(name: str, value: int | None, most: int) -> int | None:
    if value is not None and value > most:
        raise InvalidArgument(name, value, f"at most {most} on this server")
    return value
