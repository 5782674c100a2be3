"""What a request may say: OpenAI's fields, and ours beside them.

Unknown fields are refused, so that a misspelt one is not silently without effect; fields of OpenAI's that change
nothing here are accepted, and those that would change the answer but cannot are refused by name.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from smcgen.text.prompts import PromptLike

_REFUSED: dict[str, tuple[Any, ...]] = {  # field: values that ask for nothing
    "logprobs": (False,),
    "top_logprobs": (),
    "echo": (False,),
    "suffix": (),
    "best_of": (1,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "parallel_tool_calls": (True, False),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
}
_INSTEAD = {
    "best_of": "use n_particles and strategy",
    "echo": "the completion alone is returned",
}
_STOPS, _STOP_LENGTH = 4, 256
Count = Annotated[int, Field(ge=1)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


class StreamOptions(BaseModel):
    """How to stream."""

    model_config = ConfigDict(strict=True, extra="ignore")
    include_usage: bool = False


class Ask(_Strict):
    """What both kinds of request have in common.

    Attributes:
        n: texts to return: the answer, then the next best distinct ones.
        stop: strings, the first of which ends a text and is not returned.
        strategy: name of a strategy.
        n_particles: texts to write; `budget`: instead of it, tokens to write at most in all.
        strength, step, ess_threshold: see `smcgen.steer`.
        seed: the same request with the same seed gets the same answer (32 bits: what a JAX key has).
    """

    model: str
    max_tokens: Count | None = None
    n: Count | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Count | None = None
    stop: str | list[str] | None = None
    seed: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    strategy: str | None = None
    n_particles: Count | None = None
    budget: Count | None = None
    strength: float | None = None
    step: str | Count | None = None
    ess_threshold: Annotated[float, Field(ge=0, le=1)] | None = None

    # accepted, and without effect
    user: Any = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None

    # refused, unless they ask for nothing
    logprobs: Any = None
    top_logprobs: Any = None
    echo: Any = None
    suffix: Any = None
    best_of: Any = None
    frequency_penalty: Any = None
    presence_penalty: Any = None
    logit_bias: Any = None
    tools: Any = None
    tool_choice: Any = None
    parallel_tool_calls: Any = None
    functions: Any = None
    function_call: Any = None
    response_format: Any = None

    @field_validator(*_REFUSED)
    @classmethod
    def _asks_for_nothing(cls, value: Any, info: Any) -> Any:
        if value is None or value in _REFUSED[info.field_name]:
            return value
        hint = _INSTEAD.get(info.field_name, "leave it out")
        raise ValueError(f"not supported: {hint}")

    @field_validator("stop")
    @classmethod
    def _few_stops(cls, value: str | list[str] | None) -> Any:
        strings = [value] if isinstance(value, str) else value or []
        if len(strings) > _STOPS or not all(0 < len(s) <= _STOP_LENGTH for s in strings):
            raise ValueError(
                f"expected a string, or at most {_STOPS}, of 1 to {_STOP_LENGTH} characters"
            )
        return value

    @property
    def tokens(self) -> int | None:
        """Most tokens of a text, as asked."""
        return self.max_tokens

    def content(self) -> PromptLike:
        """The prompt, as `smcgen.steer` takes it."""
        raise NotImplementedError


class Part(_Strict):
    """A part of a message; only text is understood."""

    type: Literal["text"]
    text: str


class Message(_Strict):
    """A message of a chat."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part]
    name: str | None = None

    def plain(self) -> dict[str, str]:
        """As a chat template reads it; templates know "system", its new name "developer" they do not."""
        text = self.content
        if not isinstance(text, str):
            text = "".join(part.text for part in text)
        role = "system" if self.role == "developer" else self.role
        return {"role": role, "content": text}


class ChatAsk(Ask):
    """A request to `/v1/chat/completions`."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Count | None = None

    @property
    def tokens(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def content(self) -> PromptLike:
        return [message.plain() for message in self.messages]


class CompletionAsk(Ask):
    """A request to `/v1/completions`; one prompt, as text or as token ids."""

    prompt: Annotated[str, Field(min_length=1)] | Annotated[list[Any], Field(min_length=1)]

    @field_validator("prompt")
    @classmethod
    def _one_prompt(cls, value: Any) -> Any:
        if isinstance(value, str):
            return value
        if len(value) == 1 and isinstance(value[0], str | list):
            value = value[0]
        if isinstance(value, str) or (value and all(type(i) is int for i in value)):
            return value
        raise ValueError("expected one prompt, a string or token ids; send one request for each")

    def content(self) -> PromptLike:
        return self.prompt
