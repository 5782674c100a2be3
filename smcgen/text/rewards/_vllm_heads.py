"""How vLLM is asked for a head's answer at a text's end, and what it must be told to load the head.

vLLM loads a linear head on any decoder that it knows: it takes the decoder for a language model and puts
the checkpoint's `score` in place of the output layer, whether the checkpoint calls itself a
sequence or a token classifier. Read at the last token, both are the same. Prefix caching makes
that one position cost the new tokens only (and the rest of a block).
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from jaxtyping import Float

from smcgen.errors import InvalidArgument

if TYPE_CHECKING:
    import torch

Kind = Literal["classify", "token_classify", "words"]


def head_of(classes: Sequence[str], form: Any = None) -> tuple[Kind, dict[str, Any]]:
    """How the model of these classes is asked, and vLLM's arguments to load it for that.

    `form` is a process reward's `StepFormat`, None for a classifier of whole texts.
    """
    from vllm.config import PoolerConfig

    names = " ".join(classes)
    if form is not None and form.words is not None:
        return "words", {"runner": "generate"}
    if "RewardModel" in names:  # vLLM's own classes; they have no pooling by the last token
        pooler = PoolerConfig(task="token_classify", tok_pooling_type="ALL")
        return "token_classify", {"runner": "pooling", "pooler_config": pooler}
    options: dict[str, Any] = {"runner": "pooling", "convert": "classify"}
    pooler = PoolerConfig(task="classify", use_activation=False)
    if form is not None:
        pooler.seq_pooling_type = "LAST"
        if "ForPrmModel" in names or form.name == "skywork":
            from smcgen.text.rewards import _vllm_skywork

            options["hf_overrides"] = _vllm_skywork.register()
    return "classify", {**options, "pooler_config": pooler}


def kind_of(llm: Any, form: Any = None) -> Kind:
    """How an engine that somebody else has built can be asked.

    Raises:
        InvalidArgument: it cannot answer, or only with what it does not keep in its prefix cache.
    """
    config = llm.model_config
    if form is not None and form.words is not None:
        if config.runner_type != "generate":
            raise InvalidArgument("model", "an LLM of runner='pooling'", "runner='generate'")
        return "words"
    task, pooler = getattr(llm, "pooling_task", None), config.pooler_config
    if config.runner_type != "pooling" or task not in ("classify", "token_classify"):
        what = f"an LLM of runner={config.runner_type!r} for the task {task!r}"
        raise InvalidArgument("model", what, "runner='pooling' for classify or token_classify")
    if task == "token_classify" and pooler.tok_pooling_type != "ALL":
        what = f"an LLM of tok_pooling_type={pooler.tok_pooling_type!r}"
        raise InvalidArgument("model", what, "pooler_config=PoolerConfig(tok_pooling_type='ALL')")
    if form is not None and task == "classify" and pooler.seq_pooling_type != "LAST":
        what = f"an LLM of seq_pooling_type={pooler.seq_pooling_type!r}"
        raise InvalidArgument("model", what, "pooler_config=PoolerConfig(seq_pooling_type='LAST')")
    return task


def ask(
    llm: Any,
    kind: Kind,
    ids: Sequence[Sequence[int]],
    split: Sequence[int | None],
    words: tuple[int, int] | None,
) -> "tuple[list[Float[torch.Tensor, ' outputs']], list[int]]":
    """What the head says at the end of each text, without activation, and the tokens computed for each.

    `split` is where a pair's second text begins, for models that tell the two apart. For words the
    outputs are the log-probabilities of the bad and of the good one, in nats.
    """
    import torch
    from vllm import PoolingParams, SamplingParams

    prompts = [{"prompt_token_ids": list(i)} for i in ids]
    if kind == "words":
        assert words is not None
        good, bad = words
        params = SamplingParams(max_tokens=1, logprob_token_ids=[bad, good], detokenize=False)
        told = llm.generate(prompts, params, use_tqdm=False)
        found = [out.outputs[0].logprobs[0] for out in told]
        heads = [torch.tensor([f[bad].logprob, f[good].logprob]) for f in found]
    elif kind == "classify":
        asked = [
            PoolingParams(
                use_activation=False,
                extra_kwargs=None if at is None else {"compressed_token_type_ids": at},
            )
            for at in split
        ]
        told = llm.encode(prompts, asked, pooling_task=kind, use_tqdm=False)
        heads = [out.outputs.data.reshape(-1) for out in told]
    else:
        # by default it recomputes the whole text, to return a score for each of its tokens
        params = PoolingParams(use_activation=False, skip_reading_prefix_cache=False)
        told = llm.encode(prompts, params, pooling_task=kind, use_tqdm=False)
        heads = [out.outputs.data[-1].reshape(-1) for out in told]
    return heads, [len(i) - (out.num_cached_tokens or 0) for i, out in zip(ids, told, strict=True)]
