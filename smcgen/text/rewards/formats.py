r"""How process reward models read a solution: a prompt and its steps, as their tokens.

A process reward model scores a step at one token, after having read everything before it. Models
differ in what they want to read and where they answer:

| format | prompt | each step | score |
|---|---|---|---|
| `token` | the policy's own ids | the policy's own ids | head at the step's last token |
| `qwen` | chat with a system message | text, `<extra_0>` | softmax over 2 labels at `<extra_0>` |
| `skywork` | bos, text, newline | each line, newline | sigmoid of a value head at the newline |
| `math-shepherd` | text | text, ` ки` | P(`+`) against P(`-`) at the tag |
| `rlhflow` | first user turn | user turn | P(`+`) against P(`-`) as the assistant's word |

`token` is exact, since no text is decoded or encoded again, and is what a reward trained on the
policy's own tokenizer wants. Sources: model cards Qwen/Qwen2.5-Math-PRM-7B,
Skywork/Skywork-o1-Open-PRM- Qwen-2.5-7B (with SkyworkAI/skywork-o1-prm-inference, `io_utils.py`),
peiyi9979/math-shepherd- mistral-7b-prm, RLHFlow/Llama3.1-8B-PRM-Deepseek-Data (with
RLHFlow/RLHF-Reward-Modeling, `math-rm/prm_evaluate.py`). Others are made with `StepFormat` or
`dataclasses.replace`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from smcgen.errors import InvalidArgument, UnknownName


@dataclass(frozen=True)
class StepFormat:
    r"""How a prompt and its steps are written for a process reward model, and where it is read.

    Attributes:
        name: what people call it.
        chat: "ids": the policy's token ids pass through; "none": plain text; "assistant": the steps
            are one assistant turn after the prompt's user turn; "turns": each step is a user turn,
            and the score is what the assistant would say.
        system: system message of the chat, if any.
        prompt: how plain text opens, with `{prompt}` in it.
        before: text before the first step, and before each later one.
        tag: token that ends each step, where the score is read ("none" and "assistant").
        lines: the tag also ends each line inside a step.
        words: the good and the bad word of a language model that answers in words; None for a model
            with a classification head. In "turns" the good word is the assistant's answer so far.
    """

    name: str
    chat: Literal["ids", "none", "assistant", "turns"]
    system: str | None = None
    prompt: str = "{prompt}"
    before: tuple[str, str] = ("", "")
    tag: str | None = None
    lines: bool = False
    words: tuple[str, str] | None = None

    def __post_init__(self) -> None:
        if self.chat not in ("ids", "none", "assistant", "turns"):
            raise InvalidArgument("chat", self.chat, "'ids', 'none', 'assistant' or 'turns'")
        if (self.tag is not None) != (self.chat in ("none", "assistant")):
            raise InvalidArgument("tag", self.tag, "a tag for 'none' and 'assistant', None else")
        if self.chat == "turns" and self.words is None:
            raise InvalidArgument("words", None, "a good and a bad word for chat='turns'")


FORMATS: dict[str, StepFormat] = {
    f.name: f
    for f in (
        StepFormat("token", "ids"),
        StepFormat(
            "qwen",
            "assistant",
            system="Please reason step by step, and put your final answer within \\boxed{}.",
            tag="<extra_0>",
        ),
        StepFormat("skywork", "none", prompt="{prompt}\n", tag="\n", lines=True),
        StepFormat("math-shepherd", "none", before=(" ", "\n"), tag="ки", words=("+", "-")),
        StepFormat("rlhflow", "turns", words=("+", "-")),
    )
}


def as_format(form: str | StepFormat) -> StepFormat:
    """A format, by name or itself."""
    if isinstance(form, StepFormat):
        return form
    if form not in FORMATS:
        raise UnknownName("format", form, FORMATS)
    return FORMATS[form]


def detect_format(architectures: Sequence[str], name: str) -> StepFormat:
    """The format of a model, by the names of its classes and its own.

    Raises:
        InvalidArgument: if they do not tell.
    """
    name, classes = name.lower(), " ".join(architectures)
    if "ForProcessRewardModel" in classes:
        return FORMATS["qwen"]
    if "ForPrmModel" in classes or "skywork" in name:
        return FORMATS["skywork"]
    if "math-shepherd" in name and "ForCausalLM" in classes:
        return FORMATS["math-shepherd"]
    if "rlhflow" in name and "prm" in name:
        return FORMATS["rlhflow"]
    if "ForTokenClassification" in classes or "ForSequenceClassification" in classes:
        return FORMATS["token"]
    known = ", ".join(map(repr, FORMATS))
    raise InvalidArgument(
        "format", None, f"one of {known} or a StepFormat, because {classes or name!r} does not say"
    )
