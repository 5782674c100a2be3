"""Engines: what moves a population of texts.

An `Engine` wraps a causal language model and is shared and stateless; `open` starts a `Session`, the
handle to one population (KV cache, pending requests) that an engine owns. Rows are
`problem * n + particle`. Token ids go in and come out; text never passes through an engine.

Three laws meet in an engine, per token `v` after a prefix:
    base      p(v)       the model under its `Sampling` law: what the target is made of
    factor    phi(v)     token factors (constraints, experts); part of the target
    proposal  q(v)       what is drawn: p(v) phi(v) / sum_v p(v) phi(v) unless another `Sampling` is asked
and the importance weight of a token is `p(v) phi(v) / q(v)`, which for the default proposal is the
allowed mass, whatever token was drawn. `Extension` reports all three, summed over a step's tokens.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float64, Int, Int8

from smcgen.core.cost import Meter
from smcgen.text.prompts import Prompt
from smcgen.text.randomness import StepRandomness
from smcgen.text.sampling import Sampling
from smcgen.text.steps import Step
from smcgen.text.stops import Until


class Law(NamedTuple):
    """What a session draws from: base law, token factors, and the proposal's own law if it differs."""

    base: Sampling = Sampling()
    factors: tuple[Any, ...] = ()  # smcgen.text.factors.TokenFactor
    proposal: Sampling | None = None


class Extension(NamedTuple):
    """One step of some rows.

    Attributes:
        tokens: the step's token ids, -1 past each end, the end-of-text token included.
        lengths: tokens in each row's step.
        log_base: log p of the step's tokens under the base law, nats.
        log_factor: log phi of the step's tokens (0 without factors); -inf where no token was allowed
            or where the text was cut off and a factor gives incomplete texts weight zero.
        log_proposal: log q of the step's tokens under the law they were drawn from.
        finish: `smcgen.text.texts.Finish` code: RUNNING if the step ended and the text goes on.
    """

    tokens: Int[np.ndarray, "rows width"]
    lengths: Int[np.ndarray, " rows"]
    log_base: Float64[np.ndarray, " rows"]
    log_factor: Float64[np.ndarray, " rows"]
    log_proposal: Float64[np.ndarray, " rows"]
    finish: Int8[np.ndarray, " rows"]


class Session(Protocol):
    """A population in progress. Methods change it in place; `close` frees what it holds."""

    def extend(
        self,
        rows: Int[np.ndarray, " m"],
        step: Step,
        limits: Int[np.ndarray, " m"],
        randomness: StepRandomness,
        last: bool = False,
        given: Mapping[int, Sequence[int]] | None = None,
        until: Until | None = None,
    ) -> Extension:
        """Write one step for `rows`.

        A text ends (`Finish.EOS`) with the model's end-of-text token, or (`Finish.LENGTH`) when it
        has `limits` more tokens, or at the end of this step if `last`. A row's draws come from
        `randomness.uniforms(j)[row]` for the step's j-th token. Rows in `given` write these tokens,
        which are weighed as if they had been drawn. A text also ends (`Finish.STOP`) where `until`, told of
        each row's tokens, says so.

        Raises:
            InvalidArgument: given tokens are not one step of this row.
        """
        ...

    def log_continue(
        self,
        rows: Int[np.ndarray, " m"],
        tokens: Sequence[Sequence[int]],
        cut: Bool[np.ndarray, " m"],
    ) -> Float64[np.ndarray, " m"]:
        """log p + log phi, in nats, of `tokens` behind each row's text; the rows stay as they are.

        `cut` says which texts then end without the model's end-of-text token, as token factors may ask.
        """
        ...

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        """Row i becomes a copy of row `ancestors[i]`; only rows that changed are copied."""
        ...

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        """These rows are never extended again (unless `take` refills them): free what they hold."""
        ...

    def close(self) -> None:
        """Free the session."""
        ...


@runtime_checkable
class Engine(Protocol):
    """A causal language model that can write and score populations of texts.

    Attributes:
        tokenizer: a transformers tokenizer.
        vocab_size: width of the logits; all token ids are below it.
        max_length: most tokens in a prompt with its completion.
        eos_ids: tokens that end a text.
        name: what identifies the model (a checkpoint of another model is refused by it).

    An engine that serves the populations of several threads at once may say so by `concurrent = True`:
    `steer` then lets each prompt run at its own pace. One whose rows end their steps one by one may say so by
    `tells = True`: its sessions' `extend` then takes `ended`, a function, and calls it between tokens with the step as
    far as it is written (`Writing`), from whichever thread writes.
    """

    tokenizer: Any
    vocab_size: int
    max_length: int
    eos_ids: frozenset[int]
    name: str

    def open(
        self,
        prompts: Sequence[Prompt],
        n: int,
        law: Law,
        meter: Meter,
        completions: Sequence[Sequence[int]] | None = None,
    ) -> Session:
        """Start `n` particles on each prompt; `completions` (one per row) resumes earlier ones."""
        ...

    def score(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Sequence[int]],
        sampling: Sampling = Sampling(),
        meter: Meter | None = None,
    ) -> list[Float64[np.ndarray, " tokens"]]:
        """Log-probability in nats of every token of each completion under the sampled law."""
        ...
