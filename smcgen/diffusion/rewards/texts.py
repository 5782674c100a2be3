"""Rewards of texts that a masked model writes: functions of a list of strings, for `FunctionReward` or `steer`.

* `Perplexity`: what another language model thinks of the text.
* `Matches`: whether the text has a form, given by a regular expression or by a grammar.
* `TextReward`: any reward of `smcgen.text` (classifiers, process rewards, remote ones).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float64

from smcgen.core.cost import Meter
from smcgen.diffusion.backends.base import Index, Tensor
from smcgen.diffusion.backends.jax import to_numpy
from smcgen.errors import InvalidArgument, MissingExtra, UnknownName
from smcgen.text.factors.grammar import Choice, Grammar, JSONSchema, Regex
from smcgen.text.prompts import Prompt, encode
from smcgen.text.rewards.base import Reward
from smcgen.text.texts import Finish, Texts

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class Perplexity:
    """`-log perplexity`: the mean log-probability of a text's tokens under a causal language model, nats.

    Args:
        model: an `AutoModelForCausalLM` by name or folder, or a loaded one.
        tokenizer: its own; needed with a loaded model. A text is begun with its `bos` token, or `eos` without one;
            the first token counts only if there is such a beginning.
        per: "token", the mean; or "text", the sum: with strength 1 the target is then the product of both models.
        device, dtype: as for `ProcessReward`.
        batch_size: most texts in one forward pass.

    Raises:
        InvalidArgument: no such model; a choice that does not exist.
        MissingExtra: without torch and transformers.
    """

    model: "str | Path | PreTrainedModel"
    tokenizer: Any = field(default=None, repr=False)
    per: Literal["token", "text"] = "token"
    device: str = field(default="auto", kw_only=True)
    dtype: Any = field(default="auto", kw_only=True)
    batch_size: int = field(default=32, kw_only=True)

    def __post_init__(self) -> None:
        if self.per not in ("token", "text"):
            raise UnknownName("per", self.per, ("token", "text"))
        if isinstance(self.model, str | Path):
            try:
                from transformers import AutoModelForCausalLM

                from smcgen.hub import load_model, load_tokenizer, source_of
            except ImportError as error:
                raise MissingExtra("Perplexity", "transformers", "text") from error
            source = source_of("model", self.model)
            model = load_model(AutoModelForCausalLM, source, self.device, self.dtype)
            object.__setattr__(self, "tokenizer", self.tokenizer or load_tokenizer(source))
            object.__setattr__(self, "model", model)
        elif self.tokenizer is None:
            raise InvalidArgument("tokenizer", None, "a tokenizer, because the model is loaded")

    def __call__(self, texts: Sequence[str]) -> Float64[np.ndarray, " rows"]:
        first = [self.tokenizer.bos_token_id, self.tokenizer.eos_token_id]
        start = [i for i in first if i is not None][:1]
        encode = lambda text: start + self.tokenizer.encode(text, add_special_tokens=False)
        rows = [encode(text) for text in texts]
        parts = range(0, len(rows), self.batch_size)
        return np.concatenate([self._scored(rows[i : i + self.batch_size]) for i in parts])

    def _scored(self, rows: list[list[int]]) -> Float64[np.ndarray, " rows"]:
        import torch

        model: Any = self.model
        width = max(2, *map(len, rows))
        ids = torch.zeros(len(rows), width, dtype=torch.long)
        for i, row in enumerate(rows):
            ids[i, : len(row)] = torch.tensor(row)
        real = torch.arange(width) < torch.tensor([len(row) for row in rows])[:, None]
        place = model.device
        with torch.inference_mode():
            # padding is on the right, which a causal model never sees from the left
            logits = model(input_ids=ids.to(place), attention_mask=real.long().to(place)).logits
            law = logits[:, :-1].float().log_softmax(-1)
            each = law.gather(2, ids[:, 1:, None].to(place))[..., 0].double().cpu()
        total = torch.where(real[:, 1:], each, 0.0).sum(1).numpy()
        counts = real[:, 1:].sum(1).clamp_min(1).numpy()
        return total if self.per == "text" else total / counts


@dataclass(frozen=True, eq=False)
class Matches:
    r"""1 for a text that has the form, 0 for any other; with `hard` 0 and -inf: others have no weight at all.

    Args:
        form: a regular expression that the whole text must match, with the meaning of `re.fullmatch`; or a
            `Regex`, `Grammar`, `JSONSchema` or `Choice` of `smcgen.text` (these need xgrammar).
        hard: forbid all other texts.

    Before the end a value of many draws (`steer(..., draws=16)`) sees how probable the form still is; a
    single draw says yes or no.
    """

    form: str | Regex | Grammar | JSONSchema | Choice
    hard: bool = False

    def __post_init__(self) -> None:
        _ = self._accepts  # what is wrong with the form should be said here

    @cached_property
    def _accepts(self) -> Any:
        if isinstance(self.form, str):
            try:
                return re.compile(self.form).fullmatch
            except re.error as error:
                allowed = f"a regular expression ({error})"
                raise InvalidArgument("form", self.form, allowed) from error
        return self.form.accepts

    def __call__(self, texts: Sequence[str]) -> Float64[np.ndarray, " rows"]:
        found = np.array([bool(self._accepts(text)) for text in texts], np.float64)
        return np.where(found > 0, 0.0, -np.inf) if self.hard else found


@dataclass(frozen=True, eq=False)
class TextReward:
    """A reward of `smcgen.text`, asked about finished texts: `TextReward(ClassifierReward("..."), tokenizer)`.

    Args:
        reward: the reward.
        tokenizer: of the masked model; it makes the ids texts, special tokens left out.
        prompts: what the texts answer, a string for each problem; None: nothing.
        skip: so many tokens at the beginning of the canvas are no part of the text (the prompt's).
        log: a reward that is a probability counts by its log, as it does for texts; False: as it is.
    """

    reward: Reward
    tokenizer: Any = field(repr=False)
    prompts: Sequence[str] | None = None
    skip: int = 0
    log: bool = True

    traceable = False

    @cached_property
    def _prompts(self) -> list[Prompt]:
        empty = Prompt((), "")
        return [encode(self.tokenizer, p) for p in self.prompts] if self.prompts else [empty]

    def __call__(self, data: Tensor, problem: Index, decode: Any) -> Float64[np.ndarray, " rows"]:
        ids = np.asarray(to_numpy(data)).astype(np.int64)[:, self.skip :]
        rows, length = ids.shape
        ends = np.full((rows, 1), length)
        finish = np.full(rows, Finish.EOS, np.int8)
        owners = np.zeros(rows, int) if self.prompts is None else np.asarray(problem)
        prompts = [self._prompts[b] for b in owners.tolist()]
        texts = Texts(prompts, 1, ids, ends[:, 0], ends, finish, self.tokenizer)
        session = self.reward.open_reward(prompts, 1, self.tokenizer, Meter())
        try:
            scores = np.asarray(session.score(texts, np.arange(rows)), np.float64)
        finally:
            session.close()
        if self.reward.probability and self.log:
            with np.errstate(divide="ignore"):
                return np.log(scores)
        return scores
