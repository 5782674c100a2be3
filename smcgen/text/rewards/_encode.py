"""Prompts and steps as a process reward model's tokens, by a `StepFormat`.

Everything is encoded in pieces that never change when more is written, so that a cache stays valid.
Pieces meet at special tokens, or at word boundaries where tokenizers split anyway; a step's own
text cannot produce special tokens, so a policy that writes `<extra_0>` gets no score for it.
"""

import re
from typing import Any, NamedTuple

from smcgen.errors import InvalidArgument
from smcgen.text.prompts import Prompt
from smcgen.text.rewards.formats import StepFormat

_MARK = "\u2402MARK\u2403"  # stands for a message while its chat template is taken apart


class _Text(NamedTuple):
    """A part of a chat template: text, all from its first to its last special token, text."""

    first: str
    special: list[int]
    last: str


class StepEncoder:
    """A format with a tokenizer.

    Raises:
        InvalidArgument: if the tokenizer lacks the format's tokens or a chat template.
    """

    def __init__(self, form: StepFormat, tokenizer: Any):
        self._form, self._tokenizer = form, tokenizer
        self._tag = [self._token(form.tag)] if form.tag is not None else []
        self.words: tuple[int, int] | None = None
        if form.words is not None:
            self.words = self._token(form.words[0]), self._token(form.words[1])
        if form.chat in ("assistant", "turns"):
            self._split_template()

    def prompt(self, prompt: Prompt) -> list[int]:
        """What is read before the first step."""
        if self._form.chat == "assistant":
            return self._ids(self._head + prompt.text + self._tail)
        if self._form.chat == "turns":
            return self._ids(self._head + prompt.text.strip())
        bos = self._tokenizer.bos_token_id
        ids = self._ids(self._form.prompt.replace("{prompt}", prompt.text))
        return ids if bos is None else [bos, *ids]

    def step(self, text: str, index: int) -> list[int]:
        """Step `index` of a solution; the score is read at its last token."""
        form, text = self._form, text.strip()
        if form.chat == "turns":
            asked, between = self._asked, self._between
            ask = [*asked.special, *self._before_answer]
            if index == 0:
                return [*self._plain(" " + text + asked.first), *ask]
            return [
                *self._answer,
                *between.special,
                *self._plain(between.last + text + asked.first),
                *ask,
            ]
        lines = [line for line in text.split("\n") if line.strip()] if form.lines else [text]
        return [
            i
            for line in lines or [""]
            for i in (*self._after(form.before[index > 0], line), *self._tag)
        ]

    def _split_template(self) -> None:
        """The chat template's own text: before a user's message, after it, and between turns."""
        tokenizer, form = self._tokenizer, self._form
        if not getattr(tokenizer, "chat_template", None):
            raise InvalidArgument(
                "tokenizer", type(tokenizer).__name__, f"one with a chat template ({form.name!r})"
            )
        messages = [{"role": "user", "content": _MARK}]
        if form.system is not None:
            messages.insert(0, {"role": "system", "content": form.system})
        self._head, self._tail = self._render(messages)
        if form.chat != "turns":
            return
        messages += [{"role": "assistant", "content": _MARK}, messages[-1]]
        head, tail, between, last = self._render(messages)
        if (head, tail, last) != (self._head, self._tail, self._tail):
            raise InvalidArgument(
                "tokenizer", type(tokenizer).__name__, "a chat template whose turns are alike"
            )
        self._asked, self._between = self._cut(tail), self._cut(between)
        # The answer is encoded with what is written around it, and read before it begins.
        assert form.words is not None
        assert self.words is not None
        around = self._plain(self._asked.last + form.words[0] + self._between.first)
        after = self._plain(self._between.first)
        at = len(around) - len(after) - 1
        if at < 0 or around[at] != self.words[0]:  # it melts into its neighbours: encode it apart
            around = [*self._plain(self._asked.last), self.words[0], *after]
            at = len(around) - len(after) - 1
        self._before_answer, self._answer = around[:at], around[at:]

    def _cut(self, text: str) -> _Text:
        """A piece of a template, cut at its first and last special tokens."""
        names = [re.escape(str(t)) for t in self._tokenizer.added_tokens_decoder.values()]
        found = list(re.finditer("|".join(names), text)) if names else []
        if not found:
            return _Text("", self._ids(text), "")
        start, end = found[0].start(), found[-1].end()
        return _Text(text[:start], self._ids(text[start:end]), text[end:])

    def _render(self, messages: list[dict[str, str]]) -> list[str]:
        text = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        parts = text.split(_MARK)
        marks = sum(m["content"] == _MARK for m in messages)
        if len(parts) != marks + 1:
            raise InvalidArgument(
                "tokenizer",
                type(self._tokenizer).__name__,
                "a chat template that writes each message once, as it is",
            )
        return parts

    def _ids(self, text: str) -> list[int]:
        """Trusted text, in which special tokens count."""
        return self._tokenizer(text, add_special_tokens=False)["input_ids"]

    def _plain(self, text: str) -> list[int]:
        """A policy's text, in which special tokens are only text."""
        return self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)[
            "input_ids"
        ]

    def _after(self, before: str, text: str) -> list[int]:
        """`before + text` as it is encoded after a tag, when something stands between the two."""
        if not before:
            return self._plain(text)
        left = self._plain(self._form.tag or "")
        whole = self._plain((self._form.tag or "") + before + text)
        # SentencePiece begins every text with a space of its own, which the tag takes here.
        return whole[len(left) :] if whole[: len(left)] == left else self._plain(before + text)

    def _token(self, text: str) -> int:
        """The one token of a tag or word (SentencePiece may put a bare space before it)."""
        ids = self._ids(text)
        bare = len(ids) == 2 and not self._tokenizer.decode(ids[:1]).strip()
        if not (len(ids) == 1 or bare) or ids[-1] == self._tokenizer.unk_token_id:
            raise InvalidArgument(
                "tokenizer",
                type(self._tokenizer).__name__,
                f"one with the token {text!r} of the format {self._form.name!r}",
            )
        return ids[-1]
