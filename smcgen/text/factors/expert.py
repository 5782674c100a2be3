"""A second language model as an expert: texts that it likes are favoured, token by token.

    target(x)  proportional to  p(x) * e(x)^s,      e(x) = prod_t e(x_t | x_<t)

with s > 0 a product of experts (Hinton 2002; DExperts, Liu et al. 2021, arXiv:2105.03023) and s < 0
an anti-expert: contrastive decoding (Li et al. 2023, arXiv:2210.15097) is `Expert(amateur) **
-0.5`. Those methods renormalise at every token, which samples another law; here the normalisers go
into the particle's weight, so the target is the product over whole texts. An anti-expert favours
what a weak
model finds unlikely, however senseless: keep the base model's law to plausible tokens with
`Sampling(top_p=...)`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Bool, Float64, Int

from smcgen.errors import InvalidArgument, MissingExtra
from smcgen.text.factors.base import Setting, TokenFactor
from smcgen.text.prompts import Prompt, PromptLike, encode
from smcgen.text.sampling import Sampling

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class Expert(TokenFactor):
    """log phi(x_<t, v) = strength * log e(v | x_<t), with e a causal language model.

    Args:
        model: by name, folder or object; its vocabulary must be the policy's.
        strength: > 0 for an expert, < 0 for an anti-expert. `Expert(m) ** s` multiplies it.
        tokenizer: the expert's, to check the vocabulary with; None loads it with the model, or for
            a loaded model compares sizes alone.
        prompt: what the expert reads before the completion, if not the policy's prompt: text, ids
            or a chat, or a function from a `Prompt` to one.
        sampling: the expert's law; one that gives tokens probability zero forbids them, and cannot
            be an anti-expert.
        device, dtype, hub: where and how to load it; `hub` goes to `from_pretrained`.

    Ids beyond the tokenizer's vocabulary (padding of the embedding) are forbidden. A text that is
    cut off keeps the weight of its tokens. Tokens that the expert reads count as `reward_tokens`.

    Raises:
        InvalidArgument: vocabularies that differ, or a strength that is not finite.
        ModelError: when a run starts, if the expert's state is not a plain KV cache.
        MissingExtra: without torch and transformers.
    """

    model: "str | Path | PreTrainedModel"
    strength: float = 1.0
    tokenizer: Any = field(default=None, repr=False)
    prompt: PromptLike | Callable[[Prompt], PromptLike] | None = None
    sampling: Sampling = Sampling()
    device: str = field(default="auto", kw_only=True)
    dtype: Any = field(default="auto", kw_only=True)
    hub: dict[str, Any] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        if isinstance(self.strength, bool) or not np.isfinite(self.strength):
            raise InvalidArgument("strength", self.strength, "a finite number")
        if self.strength < 0 and self.sampling.truncates:
            raise InvalidArgument(
                "sampling",
                self.sampling,
                "a law without top_k, top_p or temperature=0 for an anti-expert: dividing by "
                "probability zero has no value",
            )
        if isinstance(self.model, str | Path):
            try:
                from smcgen.text.engines._load import load
            except ImportError as error:
                raise MissingExtra("Expert", "transformers", "text") from error
            loaded = load(self.model, self.tokenizer, self.device, self.dtype, self.hub, {})
            object.__setattr__(self, "model", loaded[0])
            object.__setattr__(self, "tokenizer", loaded[1])

    def power(self, strength: float) -> "Expert":
        """e ** (self.strength * strength), on the same weights."""
        return replace(self, strength=self.strength * strength)

    def open_factor(self, setting: Setting) -> "_ExpertSession":
        _check_vocabulary(self, setting.tokenizer)
        return _ExpertSession(
            self, [self._prompt(p, setting.tokenizer) for p in setting.prompts], setting
        )

    def _prompt(self, prompt: Prompt, tokenizer: Any) -> list[int]:
        if self.prompt is None:
            return list(prompt.ids)
        other = self.prompt(prompt) if callable(self.prompt) else self.prompt
        return list(encode(self.tokenizer or tokenizer, other).ids)


class _ExpertSession:
    """The expert's cache; a token is read when the law after it is asked for, not before."""

    def __init__(self, part: Expert, prompts: list[list[int]], setting: Setting):
        from smcgen.text._torch.population import Population

        self._part, self._meter, self._device = part, setting.meter, setting.device
        self._vocab_size = setting.vocab_size
        self._usable = min(len(setting.tokenizer), setting.vocab_size)
        read = lambda count: setting.meter.add(reward_tokens=count)
        self._population = Population(
            part.model,  # type: ignore[arg-type]
            [ids[:-1] for ids in prompts],
            setting.n,
            read,
        )
        own = [[ids[-1]] for ids in prompts for _ in range(setting.n)]
        more = setting.completions if setting.completions is not None else [()] * len(own)
        for row, (last, ids) in enumerate(zip(own, more, strict=True)):
            self._population.put_off(row, [*last, *ids])
        self._logits: torch.Tensor | None = None

    def log_phi(self, rows: Int[np.ndarray, " m"]) -> "Float[torch.Tensor, 'm vocab']":
        import torch

        from smcgen.text._torch.draw import warp

        with torch.inference_mode():
            law = warp(self._next(rows), self._part.sampling)
            out = torch.full((len(rows), self._vocab_size), -torch.inf, device=self._device)
            width = min(self._usable, law.shape[1])
            if self._part.strength == 0:  # 0 * -inf has no value
                out[:, :width] = 0
            else:
                out[:, :width] = (self._part.strength * law[:, :width]).to(self._device)
            return out

    def _next(self, rows: Int[np.ndarray, " m"]) -> "Float[torch.Tensor, 'm out']":
        """The expert's logits of each row's next token."""
        late, logits = self._population.catch_up(rows)
        if self._logits is None:
            self._logits = logits.new_zeros((len(self._population.lengths), logits.shape[1]))
        if len(late):
            self._logits[late] = logits
        return self._logits[rows]

    def push(self, rows: Int[np.ndarray, " m"], tokens: Int[np.ndarray, " m"]) -> None:
        for row, token in zip(rows.tolist(), tokens.tolist(), strict=True):
            self._population.put_off(row, [token])

    def log_cut(self, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        return np.zeros(len(rows))

    def log_continue(
        self,
        rows: Int[np.ndarray, " m"],
        tokens: Sequence[Sequence[int]],
        cut: Bool[np.ndarray, " m"],
    ) -> Float64[np.ndarray, " m"]:
        import torch

        from smcgen.text._torch.draw import warp
        from smcgen.text._torch.given import log_given

        sampling, strength = self._part.sampling, self._part.strength
        with torch.inference_mode():
            law = warp(self._next(rows), sampling)
        width = min(self._usable, law.shape[1])
        known = np.flatnonzero([max(ids) < width for ids in tokens])
        total = np.full(len(rows), -np.inf)
        if strength == 0:
            total[known] = 0
        elif len(known):
            first, rest = [tokens[i][0] for i in known], [tokens[i][1:] for i in known]
            total[known] = strength * law[known, first].double().cpu().numpy()
            logs = log_given(
                self._population, rows[known], np.array(first), rest, sampling, law.shape[1]
            )
            self._meter.add(reward_tokens=sum(map(len, rest)))
            total[known] += [strength * x.sum() for x in logs]
        return total

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        self._population.take(ancestors)
        if self._logits is not None:
            self._logits = self._logits[ancestors]

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        self._population.drop(rows)

    def close(self) -> None:
        self._population.close()
        self._logits = None


def _check_vocabulary(part: Expert, tokenizer: Any) -> None:
    """A token's number must mean the same to both models."""
    own = part.tokenizer
    if own is not None and own is not tokenizer:
        theirs, ours = own.get_vocab(), tokenizer.get_vocab()
        if theirs != ours:
            differ = sorted(
                ({*ours.items()} ^ {*theirs.items()}), key=lambda item: (item[1], item[0])
            )
            raise InvalidArgument(
                "model",
                f"an expert with {len(theirs)} tokens",
                f"one with the policy's vocabulary of {len(ours)}; they differ first at id "
                f"{differ[0][1]}, {differ[0][0]!r}",
            )
    model: Any = part.model
    width = model.get_input_embeddings().weight.shape[0]
    if width < len(tokenizer):
        raise InvalidArgument(
            "model",
            f"an expert with {width} tokens",
            f"one with the policy's vocabulary of {len(tokenizer)}",
        )
