"""The vLLM engine: continuous batching, paged KV cache, many populations at once.

The engine runs in this process. Tokens are drawn on the device by the same code as in `Transformers`, from the same
uniforms, so that a seed gives the same texts on both (up to rounding), and constraints, experts and proposals weigh
what they weigh there. A copy of a particle shares its parent's cache; a particle between two steps keeps its own.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from smcgen.core.arguments import check_counts
from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument
from smcgen.text.engines._check import check_completions, check_law, check_prompts, end_tokens
from smcgen.text.engines._vllm_env import in_process
from smcgen.text.engines.base import Law
from smcgen.text.identity import weights_hash
from smcgen.text.prompts import Prompt
from smcgen.text.sampling import Sampling


class VLLM:
    """A causal language model served by vLLM.

    Args:
        model: a folder, a name on the Hugging Face hub, or a `vllm.LLM` that runs in this process.
        restarts: how often an engine that dies is built again, its texts going on where they were.
        max_length: most tokens in a prompt with its completion; the model's own limit if None.
        **engine_args: vLLM's engine arguments (`dtype`, `max_num_seqs`, `gpu_memory_utilization`,
            `kv_cache_memory_bytes`, `quantization`, `enforce_eager`, `trust_remote_code`, ...).
            On the CPU the defaults are float32, blocks of 32 tokens, a cache of 1 GiB and no compilation.

    Attributes:
        tokenizer, max_length, eos_ids, name: see `smcgen.text.engines.base.Engine`.
        vocab_size: width of the logits.

    Use it as a context manager, or `close` it, to free its memory. Threads may share it: each run
    waits only for its own texts.

    Raises:
        MissingExtra: vLLM is not installed.
        InvalidArgument: the model does not exist, or an argument does not fit.
        EngineError: vLLM cannot start, or is of a version that this module does not know.
    """

    concurrent = tells = True  # see `Engine`

    def __init__(
        self,
        model: Any,
        *,
        restarts: int = 0,
        max_length: int | None = None,
        **engine_args: Any,
    ):
        check_counts(0, restarts=restarts)
        check_counts(optional=True, max_length=max_length)
        with in_process():
            from smcgen.text.engines._vllm import adopt, build
            from smcgen.text.engines._vllm.core import Core

            if hasattr(model, "llm_engine"):
                for name, value in {"max_length": max_length, **engine_args}.items():
                    if value is not None:
                        raise InvalidArgument(name, value, "nothing, with an LLM that is built")
                make: Any = adopt.Adopted(model)
                self._core = adopt.core_of(model, make)
            else:
                make = build.Build(model, max_length, engine_args)
                _check_writes(make.config.model_config)
                self._core = Core(make, restarts)
        self._own = not hasattr(model, "llm_engine")
        config = make.config.model_config
        self.tokenizer = make.tokenizer
        self.vocab_size = int(config.get_vocab_size())
        self.max_length: int = int(config.max_model_len)
        self.eos_ids = end_tokens(self.tokenizer, make.generation_eos, self.vocab_size)
        self._is_eos = np.zeros(self.vocab_size, dtype=bool)
        self._is_eos[list(self.eos_ids)] = True
        self._device = make.config.device_config.device
        weights = self._core.engine.model_executor.driver_worker.get_model()
        self.name = f"{Path(config.model).name}@{weights_hash(weights)}"

    def open(
        self,
        prompts: Sequence[Prompt],
        n: int,
        law: Law,
        meter: Meter,
        completions: Sequence[Sequence[int]] | None = None,
    ) -> Any:
        """Start `n` particles on each prompt; see `smcgen.text.engines.base.Engine`."""
        from smcgen.text.engines._vllm.session import VLLMSession

        check_prompts(prompts, None, self.max_length, self.vocab_size)
        check_law(law)
        check_completions(completions, len(prompts) * n)
        return VLLMSession(
            self._core, self.tokenizer, self._is_eos, self.max_length, self.eos_ids,
            self._device, prompts, n, law, meter, completions,
        )  # fmt: skip

    def score(
        self,
        prompts: Sequence[Prompt],
        completions: Sequence[Sequence[int]],
        sampling: Sampling = Sampling(),
        meter: Meter | None = None,
    ) -> list[Float64[np.ndarray, " tokens"]]:
        """Log-probability in nats of every token of each completion under the sampled law.

        Prompts come from the prefix cache as far as they are in it, so a continuation scored under many
        prefixes costs its own tokens. A law that is not the model's own (a temperature, top-p) is
        computed token by token, since vLLM scores prompts under the model's own law alone.
        """
        from smcgen.text.engines._vllm.score import score

        if not prompts or len(completions) % len(prompts):
            allowed = f"a multiple of the {len(prompts)} prompts"
            raise InvalidArgument("completions", len(completions), allowed)
        n = len(completions) // len(prompts)
        each = [p for p in prompts for _ in range(n)]
        check_prompts(each, completions, self.max_length, self.vocab_size)
        heads = [p.ids for p in each]
        return score(self._core, heads, completions, sampling, self.max_length, meter or Meter())

    @property
    def dead(self) -> BaseException | None:
        """What ended the engine for good, or None while it lives; one failed run does not end it."""
        return self._core.dead

    def close(self) -> None:
        """Shut the engine down and free its memory; an LLM that somebody else has made stays as it is."""
        if self._own:
            self._core.close()

    def __enter__(self) -> "VLLM":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"VLLM({self.name!r}, max_length={self.max_length})"


def _check_writes(config: Any) -> None:
    """Refuse what vLLM takes for a pooling model: it scores or embeds texts."""
    if config.runner_type != "generate":
        got = f"{config.model} ({', '.join(config.architectures)})"
        allowed = (
            "a causal language model (a reward goes into VLLMProcessReward or VLLMClassifierReward)"
        )
        raise InvalidArgument("model", got, allowed)
