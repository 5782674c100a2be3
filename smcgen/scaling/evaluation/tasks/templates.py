"""What a model is told about a problem: chat messages around its text.

A template is a name of `TEMPLATES`, a text with `{problem}` in it, a list of chat messages with `{problem}` in
them, or a function of the problem's text.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from smcgen.errors import InvalidArgument
from smcgen.text.prompts import PromptLike

Template = Callable[[Any], PromptLike]
_PLACE = "{problem}"

_BOXED = r"Please reason step by step, and put your final answer within \boxed{}."
_STEPS = r"""Solve the following math problem efficiently and clearly:

- For simple problems (2 steps or fewer):
Provide a concise solution with minimal explanation.

- For complex problems (3 steps or more):
Use this step-by-step format:

## Step 1: [Concise description]
[Brief explanation and calculations]

## Step 2: [Concise description]
[Brief explanation and calculations]

...

Regardless of the approach, always conclude with:

Therefore, the final answer is: $\boxed{answer}$. I hope it is correct.

Where [answer] is just the final number or expression that solves the problem."""

TEMPLATES: dict[str, list[dict[str, str]]] = {
    # the system prompt of Qwen2.5-Math's model card
    "boxed": [{"role": "system", "content": _BOXED}, {"role": "user", "content": _PLACE}],
    # Beeching, Tunstall and Rush (2024), "Scaling test-time compute with open models"; used by Puri et al. (2025)
    "steps": [{"role": "system", "content": _STEPS}, {"role": "user", "content": _PLACE}],
    "chat": [{"role": "user", "content": _PLACE}],
}


def as_template(template: Template | str | Sequence[Mapping[str, str]]) -> Template:
    """A template by name, text, messages or function.

    Raises:
        InvalidArgument: it is neither a name nor has `{problem}` in it.
    """
    if callable(template):
        return template
    given = TEMPLATES.get(template, template) if isinstance(template, str) else template
    parts = [given] if isinstance(given, str) else [m.get("content", "") for m in given]
    if not any(_PLACE in part for part in parts):
        names = ", ".join(map(repr, TEMPLATES))
        raise InvalidArgument(
            "template", template, f"one of {names}, or text or messages with {_PLACE} in them"
        )

    def make(problem: Any) -> PromptLike:
        if not isinstance(problem, str):
            raise InvalidArgument("prompt", problem, "text: chat messages take no template")
        # not str.format: problems and instructions are full of braces
        if isinstance(given, str):
            return given.replace(_PLACE, problem)
        return [{**m, "content": m["content"].replace(_PLACE, problem)} for m in given]

    return make
