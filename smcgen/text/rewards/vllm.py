"""Rewards served by vLLM: the same scores as `ProcessReward` and `ClassifierReward`, by its engine.

What vLLM adds is batching across everything that asks at the same time, a paged cache that equal
beginnings share, and the speed of its kernels. A text that has grown costs its new tokens, and the rest
of the cache's block that they begin in (32 tokens on a CPU, 16 on a GPU).

The engine runs in this process, beside others. It is built once, serves any number of runs and threads,
and is freed by `close` or at the end of a `with` block.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument
from smcgen.text.prompts import Prompt
from smcgen.text.rewards._classify import check_reads, settle
from smcgen.text.rewards.base import Reward, RewardSession
from smcgen.text.rewards.formats import StepFormat, as_format, detect_format

if TYPE_CHECKING:
    from vllm import LLM


class _Served(Reward):
    """What both rewards do with their engine."""

    _server: Any

    def close(self) -> None:
        """Shut the engine down and free its memory, unless it came from outside."""
        self._server.close()

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _set(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)


@dataclass(frozen=True, eq=False, init=False)
class VLLMProcessReward(_Served):
    """A process reward model served by vLLM, read where each step ends; scores are probabilities.

    `VLLMProcessReward("Qwen/Qwen2.5-Math-PRM-7B")` is all that public models need. Token and
    sequence classifiers with one label or two over any decoder that vLLM knows can be one, and any
    language model that answers by a good or a bad word.

    Args:
        model: a name on the Hugging Face hub, a folder, or a `vllm.LLM`, which is not closed with
            the reward.
        tokenizer: of the reward model; None loads it with the model. A folder or name, if the model
            comes without one, since vLLM wants one too.
        format: see `ProcessReward`.
        cache: how many scores each run remembers by content.
        **engine_args: vLLM's engine arguments (`max_model_len`, `kv_cache_memory_bytes`, `dtype`,
            `quantization`, `trust_remote_code`, ...). The defaults are a KV cache of 1 GiB on a CPU
            and of 4 GiB elsewhere, and on a CPU float32 in blocks of 32 tokens, not compiled.

    Raises:
        InvalidArgument: a format that does not suit the model or tokenizer; a model or an argument
            that vLLM refuses.
        RewardError: in a run, a text that is too long for the engine.
        EngineError: the engine does not start; in a run, it died or was closed.
        MissingExtra: without vLLM.
    """

    name: str
    tokenizer: Any = field(repr=False)
    format: StepFormat
    probability = True

    def __init__(
        self,
        model: "str | Path | LLM",
        tokenizer: Any = None,
        format: str | StepFormat | None = None,
        *,
        cache: int = 100_000,
        **engine_args: Any,
    ):
        known = None if format is None else as_format(format)
        decide = lambda classes, name: detect_format(classes, name) if known is None else known
        self._set(cache=cache, **_open(model, tokenizer, decide, engine_args))

    def open_reward(
        self, prompts: Sequence[Prompt], n: int, tokenizer: Any, meter: Meter
    ) -> RewardSession:
        from smcgen.text.rewards._vllm_sessions import ProcessSession

        return ProcessSession(self, prompts, n, tokenizer, meter)


@dataclass(frozen=True, eq=False, init=False)
class VLLMClassifierReward(_Served):
    """The probability, log-probability or logit of a label, by a sequence classifier that vLLM serves.

    Args:
        model, tokenizer, cache, **engine_args: see `VLLMProcessReward`.
        label, output, reads, truncate: see `ClassifierReward`.

    Raises:
        InvalidArgument, RewardError, EngineError, MissingExtra: as there.
    """

    name: str
    tokenizer: Any = field(repr=False)
    label: str | int | None
    output: Literal["probability", "log_prob", "logit"] | None
    reads: Literal["joined", "pair", "chat", "completion"]
    truncate: bool

    def __init__(
        self,
        model: "str | Path | LLM",
        tokenizer: Any = None,
        label: str | int | None = None,
        output: Literal["probability", "log_prob", "logit"] | None = None,
        *,
        reads: Literal["joined", "pair", "chat", "completion"] = "joined",
        truncate: bool = False,
        cache: int = 100_000,
        **engine_args: Any,
    ):
        check_reads(reads)
        opened = _open(model, tokenizer, lambda *_: None, engine_args)
        try:
            chosen = settle(opened["_config"], opened["tokenizer"], label, output, reads)
        except InvalidArgument:
            opened["_server"].close()
            raise
        self._set(cache=cache, reads=reads, truncate=truncate, **opened)
        self._set(label=chosen[0], output=chosen[1], probability=chosen[1] == "probability")

    def open_reward(
        self, prompts: Sequence[Prompt], n: int, tokenizer: Any, meter: Meter
    ) -> RewardSession:
        from smcgen.text.rewards._vllm_sessions import VLLMClassifierSession

        return VLLMClassifierSession(self, meter)


def _open(
    model: Any, tokenizer: Any, decide: Any, engine_args: Mapping[str, Any]
) -> dict[str, Any]:
    """The parts of a reward: its server, tokenizer, format (by `decide`), configuration and name."""
    from smcgen.hub import load_config, load_tokenizer, source_of
    from smcgen.text.identity import weights_hash
    from smcgen.text.rewards import _vllm_heads, _vllm_server

    hub = {"trust_remote_code": bool(engine_args.get("trust_remote_code", False))}
    if isinstance(model, str | Path):
        source = source_of("model", model)
        config = load_config(source, **hub)
        classes, path = list(config.get("architectures") or ()), config.get("_name_or_path", "")
        form = decide(classes, f"{model} {path}")
        if isinstance(tokenizer, str | Path):
            engine_args = {**engine_args, "tokenizer": str(tokenizer)}
            tokenizer = load_tokenizer(source_of("tokenizer", tokenizer), **hub)
        elif tokenizer is None:
            tokenizer = load_tokenizer(source, **hub)
        with _vllm_server.in_process():
            kind, options = _vllm_heads.head_of(classes, form)
        llm = _vllm_server.build(source, options, dict(engine_args))
    elif engine_args:
        allowed = "none, because the engine is built already"
        raise InvalidArgument("engine_args", sorted(engine_args), allowed)
    else:
        llm, of = model, model.model_config
        form = decide(list(of.architectures), str(of.model))
        kind = _vllm_heads.kind_of(llm, form)
        if tokenizer is None:
            tokenizer = load_tokenizer(str(of.tokenizer), trust_remote_code=of.trust_remote_code)
    config = llm.model_config
    name = Path(str(config.model)).name
    executor = getattr(llm.llm_engine, "model_executor", None)  # of an engine in this process
    if executor is not None:
        name += f"@{weights_hash(executor.driver_worker.get_model())}"
    return {
        "name": name,
        "tokenizer": tokenizer,
        "format": form,
        "_config": config.hf_config,
        "_width": int(config.get_vocab_size()),
        "_server": _vllm_server.Server(llm, kind, owned=llm is not model),
    }
