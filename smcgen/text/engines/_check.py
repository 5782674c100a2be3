"""What every engine checks before a run, and the tokens that end a text."""

from collections.abc import Sequence
from typing import Any

from smcgen.errors import InvalidArgument
from smcgen.text.engines.base import Law
from smcgen.text.prompts import Prompt
from smcgen.text.sampling import covers


def check_prompts(
    prompts: Sequence[Prompt],
    completions: Sequence[Sequence[int]] | None,
    max_length: int,
    vocab_size: int,
) -> None:
    """Prompts, each with a completion if there are some, must be known tokens and fit the context."""
    for i, prompt in enumerate(prompts):
        ids = [*prompt.ids, *(completions[i] if completions is not None else ())]
        if len(ids) > max_length:
            raise InvalidArgument(
                "prompt" if completions is None else "prompt and completion",
                f"{len(ids)} tokens: {prompt.text[:40]}",
                f"at most max_length={max_length} tokens",
            )
        if not ids or min(ids) < 0 or max(ids) >= vocab_size:
            raise InvalidArgument("prompt", ids[:8], f"token ids in [0, {vocab_size})")


def check_law(law: Law) -> None:
    """A proposal that cannot draw what the base law allows has no weight that makes up for it."""
    if law.proposal is not None and not covers(law.proposal, law.base):
        raise InvalidArgument(
            "proposal",
            law.proposal,
            f"a law that can draw every token that the base law {law.base} allows "
            "(no top_k, top_p or temperature 0 of its own): importance weights are wrong otherwise",
        )


def check_completions(completions: Sequence[Any] | None, rows: int) -> None:
    """Completions that resume a run must be one for each row."""
    if completions is not None and len(completions) != rows:
        raise InvalidArgument("completions", len(completions), f"one for each of {rows} rows")


def end_tokens(tokenizer: Any, generation: Any, vocab_size: int) -> frozenset[int]:
    """Tokens that end a text: the tokenizer's, and those of the generation configuration."""
    ends: set[int] = {tokenizer.eos_token_id} - {None}
    ends |= {generation} if isinstance(generation, int) else set(generation or ())
    return frozenset(i for i in ends if 0 <= i < vocab_size)
