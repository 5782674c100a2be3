"""Prompts: strings, chat messages or token ids, made token ids once and never decoded again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from smcgen.errors import InvalidArgument

ChatMessage = Mapping[str, str]
PromptLike = str | Sequence[ChatMessage] | Sequence[int]


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
    """Whether `prompts` is one prompt rather than a list of prompts."""
    if isinstance(prompts, str | Prompt):
        return True
    return len(prompts) > 0 and isinstance(prompts[0], int | Mapping)


def encode(tokenizer: Any, prompt: "PromptLike | Prompt") -> Prompt:
    """One prompt as token ids: text by the tokenizer, chats by its chat template."""
    if isinstance(prompt, Prompt):
        return prompt
    if len(prompt) == 0:
        raise InvalidArgument("prompt", prompt, "a prompt that is not empty")
    if isinstance(prompt, str):
        return Prompt(_nonempty(tokenizer(prompt)["input_ids"], prompt), prompt)
    if isinstance(prompt[0], Mapping):
        messages = cast("tuple[ChatMessage, ...]", tuple(prompt))
        if not getattr(tokenizer, "chat_template", None):
            raise InvalidArgument(
                "prompt", prompt, "text or ids: the tokenizer has no chat template"
            )
        ids = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=True, return_dict=False
        )
        users = [m["content"] for m in messages if m.get("role") == "user"]
        return Prompt(_nonempty(ids, prompt), users[-1] if users else "", messages)
    ids = tuple(int(i) for i in cast("Sequence[int]", prompt))
    if not all(0 <= i < len(tokenizer) for i in ids):
        raise InvalidArgument("prompt", prompt, f"token ids in [0, {len(tokenizer)})")
    return Prompt(ids, tokenizer.decode(ids, skip_special_tokens=True))


def encode_all(tokenizer: Any, prompts: Any) -> list[Prompt]:
    """One prompt or many, as a list of `Prompt`."""
    many = [prompts] if is_single(prompts) else list(prompts)
    if not many:
        raise InvalidArgument("prompts", prompts, "at least one prompt")
    return [encode(tokenizer, p) for p in many]


def _nonempty(ids: Sequence[int], prompt: Any) -> tuple[int, ...]:
    if not ids:
        raise InvalidArgument("prompt", prompt, "a prompt of at least one token")
    return tuple(int(i) for i in ids)
