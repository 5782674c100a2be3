"""The `transformers` engine: any decoder-only model, in this process, on a KV cache of our own.

Prompts are stored once per problem, resampling copies only the rows that changed, and draws are exact in double
precision. Use it for research on one machine, for models that vLLM does not know, and where every number should be
reproducible from a seed.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64
from transformers import PreTrainedModel

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument
from smcgen.text._torch.support import support
from smcgen.text.engines._check import check_completions, check_law, check_prompts, end_tokens
from smcgen.text.engines._load import load, longest, weights_name
from smcgen.text.engines._score import score
from smcgen.text.engines._session import TransformersSession
from smcgen.text.engines.base import Law
from smcgen.text.prompts import Prompt
from smcgen.text.sampling import Sampling


class Transformers:
    """A causal language model of the `transformers` library.

    Args:
        model: a folder, a name on the Hugging Face hub, or a model object (put in evaluation mode,
            otherwise left as it is).
        tokenizer: an object, folder or name; the model's own if None.
        device: "auto" takes a CUDA device if there is one; a model object stays where it is.
        dtype: "auto" keeps the checkpoint's on CUDA and takes float32 on the CPU.
        trust_remote_code: let a model bring its own Python code.
        revision: version of the model on the hub.
        max_length: most tokens in a prompt with its completion; the model's own limit if None.
        **model_kwargs: passed to `AutoModelForCausalLM.from_pretrained`.

    Attributes:
        model: the model object.
        tokenizer, max_length, eos_ids, name: see `smcgen.text.engines.base.Engine`.
        vocab_size: width of the logits, which may exceed `len(tokenizer)`.

    Raises:
        InvalidArgument: if the path does not exist, the model is not a causal language model, there
            is no tokenizer, or it does not fit the model.
        SmcgenError: if the model cannot be read, or the hub cannot be reached.
        ModelError: if the model's state is not a plain KV cache, so that texts cannot be forked.
    """

    def __init__(
        self,
        model: str | Path | PreTrainedModel,
        tokenizer: Any = None,
        *,
        device: str | torch.device = "auto",
        dtype: str | torch.dtype = "auto",
        trust_remote_code: bool = False,
        revision: str | None = None,
        max_length: int | None = None,
        **model_kwargs: Any,
    ):
        hub = {"trust_remote_code": trust_remote_code, "revision": revision}
        self.model, self.tokenizer = load(model, tokenizer, device, dtype, hub, model_kwargs)
        head = self.model.get_output_embeddings()
        if head is None or not hasattr(head, "weight"):
            raise InvalidArgument("model", type(self.model).__name__, "a causal language model")
        self.vocab_size = int(head.weight.shape[0])
        # added tokens may lie beyond the logits: a padding token that the model never knew, say
        size = getattr(self.tokenizer, "vocab_size", 0)
        if size > self.vocab_size:
            raise InvalidArgument(
                "tokenizer", f"{size} tokens", f"at most the {self.vocab_size} that the model knows"
            )
        allowed = longest(self.model, self.tokenizer)
        if max_length is not None and not 0 < max_length <= allowed:
            raise InvalidArgument("max_length", max_length, f"None or an integer in [1, {allowed}]")
        self.max_length: int = max_length or allowed
        generation = getattr(self.model.generation_config, "eos_token_id", None)
        self.eos_ids = end_tokens(self.tokenizer, generation, self.vocab_size)
        support(self.model)  # an unsuitable model is refused here, not in the middle of a run
        self.name = weights_name(self.model, model)

    def open(
        self,
        prompts: Sequence[Prompt],
        n: int,
        law: Law,
        meter: Meter,
        completions: Sequence[Sequence[int]] | None = None,
    ) -> TransformersSession:
        """Start `n` particles on each prompt; see `smcgen.text.engines.base.Engine`.

        Raises:
            InvalidArgument: if a prompt is too long or holds ids the model does not know, or if the
                proposal cannot draw some token that the base law allows, so that no weight could
                make up for it.
        """
        check_prompts(prompts, None, self.max_length, self.vocab_size)
        check_law(law)
        check_completions(completions, len(prompts) * n)
        return TransformersSession(
            self.model,
            self.tokenizer,
            self.vocab_size,
            self.max_length,
            self.eos_ids,
            prompts,
            n,
            law,
            meter,
            completions,
        )

    def score(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Sequence[int]],
        sampling: Sampling = Sampling(),
        meter: Meter | None = None,
    ) -> list[Float64[np.ndarray, " tokens"]]:
        """Log-probability in nats of every token of each completion under the sampled law.

        Args:
            prompts: one per completion, or one for every `len(completions) / len(prompts)` of them in
                a row; equal prompts are read once.
            completions: token ids.
            sampling: the law.
            meter: counts what is read, if given.

        Raises:
            InvalidArgument: if the numbers do not match, or a text is longer than `max_length`.
        """
        if not prompts or len(completions) % len(prompts):
            raise InvalidArgument(
                "completions", len(completions), f"a multiple of the {len(prompts)} prompts"
            )
        n = len(completions) // len(prompts)
        each = [p for p in prompts for _ in range(n)]
        check_prompts(each, completions, self.max_length, self.vocab_size)
        return score(self.model, self.vocab_size, prompts, completions, sampling, meter or Meter())
