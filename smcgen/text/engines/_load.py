"""A causal language model with its tokenizer: loading, limits and a name for its weights."""

import re
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from smcgen.errors import InvalidArgument
from smcgen.hub import load_config, load_model, load_tokenizer, source_of
from smcgen.text.identity import weights_hash

_NO_LIMIT = 1 << 20


def load(
    model: Any,
    tokenizer: Any,
    device: str | torch.device,
    dtype: str | torch.dtype,
    hub: dict[str, Any],
    model_kwargs: dict[str, Any],
) -> tuple[PreTrainedModel, Any]:
    """A model in evaluation mode and its tokenizer, from objects, folders or names."""
    if isinstance(model, str | Path):
        source = source_of("model", model)
        loaded = _load_causal(source, device, dtype, hub, model_kwargs)
    elif isinstance(model, PreTrainedModel):
        source, loaded = getattr(model.config, "_name_or_path", "") or None, model
        if device != "auto" or dtype != "auto":
            raise InvalidArgument(
                "device", device, "'auto' with a model object, as for dtype: move it before"
            )
    else:
        raise InvalidArgument(
            "model", type(model).__name__, "a path, a name or a transformers model"
        )
    if tokenizer is None:
        if source is None:
            raise InvalidArgument(
                "tokenizer", None, "a tokenizer, since the model object names none"
            )
        tokenizer = source
    if isinstance(tokenizer, str | Path):
        tokenizer = load_tokenizer(source_of("tokenizer", tokenizer), **hub)
    return loaded.eval(), tokenizer


def _load_causal(
    source: str, device: Any, dtype: Any, hub: dict[str, Any], model_kwargs: dict[str, Any]
) -> PreTrainedModel:
    load_config(source, **hub)  # so that a missing model is an error of ours
    config = AutoConfig.from_pretrained(source, **hub)
    remote = "AutoModelForCausalLM" in (getattr(config, "auto_map", None) or {})
    if type(config) not in AutoModelForCausalLM._model_mapping and not remote:
        got = f"{source} ({type(config).__name__})"
        raise InvalidArgument("model", got, "a causal language model")
    heads = list(getattr(config, "architectures", None) or ())
    if heads and not remote and all(_of_another_kind(head) for head in heads):
        got = f"{source} ({', '.join(heads)})"
        allowed = "a causal language model (a reward model goes into reward=)"
        raise InvalidArgument("model", got, allowed)
    return load_model(AutoModelForCausalLM, source, device, dtype, **hub, **model_kwargs)


def _of_another_kind(architecture: str) -> bool:
    """Whether a checkpoint's class has another head: loaded as a language model, it would get one at random."""
    found = re.search(r"For([A-Z]\w*)$", architecture)
    return found is not None and not found[1].startswith(("CausalLM", "ConditionalGeneration"))


def longest(model: PreTrainedModel, tokenizer: Any) -> int:
    """Most tokens that the model and its tokenizer are made for."""
    config = model.config.get_text_config(decoder=True)
    limits = [getattr(config, key, None) for key in ("max_position_embeddings", "n_positions")]
    limits.append(getattr(tokenizer, "model_max_length", None))
    return min([int(x) for x in limits if x and x < _NO_LIMIT * 64], default=_NO_LIMIT)


def weights_name(model: PreTrainedModel, source: Any) -> str:
    """A name for these weights: a word for people, and a hash of the configuration and some numbers."""
    named = (
        str(source)
        if isinstance(source, str | Path)
        else getattr(model.config, "_name_or_path", "")
    )
    folder = Path(named).expanduser()
    if named and folder.exists():
        named = folder.resolve().name
    return f"{named or type(model).__name__}@{weights_hash(model)}"
