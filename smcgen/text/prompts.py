"""Prompts: strings, chat messages or token ids, made token ids once and never decoded again."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from typing import Any

import numpy as np

from smcgen.errors import InvalidArgument

ChatMessage = Mapping[str, str]
PromptLike = str | Sequence[ChatMessage] | Sequence[int] | np.ndarray
_ALLOWED = "a string, chat messages (a list of mappings) or token ids"


@dataclass(frozen=True)
class Prompt:
    """A prompt as the engine reads it.

    Attributes:
        ids: its token ids, special tokens included.
        text: what the user gave, as text (the last user message of a chat); rewards read it.
        messages: the chat, if it was one.
    """

    ids: tuple[int, ...]
    text: str
    messages: tuple[ChatMessage, ...] | None = None


def is_single(prompts: Any) -> bool:
    """Whether `prompts` is one prompt rather than a list (or a generator) of prompts."""
    prompts = _plain(prompts)
    if isinstance(prompts, str | Prompt):
        return True
    if not isinstance(prompts, Sequence) or len(prompts) == 0:
        return False
    return isinstance(_plain(prompts[0]), Integral | Mapping)


def encode(tokenizer: Any, prompt: Any) -> Prompt:
    """One prompt as token ids: text by the tokenizer, chats by its chat template."""
    prompt = _plain(prompt)
    if isinstance(prompt, Prompt):
        return prompt
    if not isinstance(prompt, Sequence) or isinstance(prompt, bytes | bytearray):
        raise InvalidArgument("prompt", prompt, _ALLOWED)
    if len(prompt) == 0:
        raise InvalidArgument("prompt", prompt, "a prompt that is not empty")
    if isinstance(prompt, str):
        return Prompt(_nonempty(tokenizer(prompt)["input_ids"], prompt), prompt)
    if all(isinstance(message, Mapping) for message in prompt):
        messages: tuple[ChatMessage, ...] = tuple(prompt)
        if not getattr(tokenizer, "chat_template", None):
            raise InvalidArgument(
                "prompt", prompt, "text or ids: the tokenizer has no chat template"
            )
        ids = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, return_dict=False
        )
        users = [m["content"] for m in messages if m.get("role") == "user"]
        return Prompt(_nonempty(ids, prompt), users[-1] if users else "", messages)
    numbers = [_plain(i) for i in prompt]
    if not all(isinstance(i, Integral) and not isinstance(i, bool) for i in numbers):
        raise InvalidArgument("prompt", prompt, _ALLOWED)
    ids = tuple(int(i) for i in numbers)
    if not all(0 <= i < len(tokenizer) for i in ids):
        raise InvalidArgument("prompt", prompt, f"token ids in [0, {len(tokenizer)})")
    return Prompt(ids, tokenizer.decode(ids, skip_special_tokens=True))


def encode_all(tokenizer: Any, prompts: Any) -> list[Prompt]:
    """One prompt or many, as a list of `Prompt`."""
    if is_single(prompts):
        return [encode(tokenizer, prompts)]
    prompts = _plain(prompts)
    if not isinstance(prompts, Iterable) or isinstance(prompts, Mapping):
        raise InvalidArgument("prompt", prompts, f"{_ALLOWED}, or a list of these")
    many = list(prompts)
    if not many:
        raise InvalidArgument("prompts", prompts, "at least one prompt")
    return [encode(tokenizer, p) for p in many]


def _plain(value: Any) -> Any:
    """Arrays of NumPy, torch and JAX, and their numbers, as Python's own."""
    return value.tolist() if hasattr(value, "tolist") and hasattr(value, "ndim") else value


def _nonempty(ids: Sequence[int], prompt: Any) -> tuple[int, ...]:
    if not ids:
        raise InvalidArgument("prompt", prompt, "a prompt of at least one token")
    return tuple(int(i) for i in ids)
