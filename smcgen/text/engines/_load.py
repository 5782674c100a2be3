"""Models and tokenizers of the `transformers` library, with errors that say what to do."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from smcgen.errors import InvalidArgument, SmcgenError

_NO_LIMIT = 1 << 20
_TOKENIZER_FILES = ("token", "vocab", "spiece", ".model", "merges")
# what may differ between two loads of the same weights
_VOLATILE = (
    "_name_or_path",
    "transformers_version",
    "dtype",
    "torch_dtype",
    "_attn_implementation",
)


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
        source = _source("model", model)
        loaded = _load_model(source, device, dtype, hub, model_kwargs)
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
        tokenizer = _load_tokenizer(_source("tokenizer", tokenizer), hub)
    return loaded.eval(), tokenizer


def _source(name: str, path: str | Path) -> str:
    """A folder that exists or a name on the hub."""
    text = str(path)
    folder = Path(text).expanduser()
    if folder.exists():
        return str(folder)
    # names on the hub are "owner/model" or "model"
    if isinstance(path, Path) or text.startswith((".", "/", "~")) or text.count("/") > 1:
        raise InvalidArgument(name, text, "a folder that exists, or a name on the Hugging Face hub")
    return text


def _load_model(
    source: str,
    device: str | torch.device,
    dtype: str | torch.dtype,
    hub: dict[str, Any],
    model_kwargs: dict[str, Any],
) -> PreTrainedModel:
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if dtype == "auto" and torch.device(device).type == "cpu":
        dtype = torch.float32  # half precision is slow there
    try:
        config = AutoConfig.from_pretrained(source, **hub)
        if type(
            config
        ) not in AutoModelForCausalLM._model_mapping and "AutoModelForCausalLM" not in (
            getattr(config, "auto_map", None) or {}
        ):
            raise InvalidArgument(
                "model", f"{source} ({type(config).__name__})", "a causal language model"
            )
        loaded = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, **hub, **model_kwargs)
    except (OSError, ValueError) as error:
        if isinstance(error, SmcgenError):
            raise
        raise SmcgenError(_cannot("model", source, error)) from error
    if "device_map" in model_kwargs:
        return loaded
    torch.nn.Module.to(loaded, device)
    return loaded


def _load_tokenizer(source: str, hub: dict[str, Any]) -> Any:
    # without files of its own, a tokenizer of the configuration's kind comes back empty, not an error
    if Path(source).is_dir() and not any(
        f for f in Path(source).iterdir() if any(w in f.name for w in _TOKENIZER_FILES)
    ):
        raise InvalidArgument("tokenizer", source, "a folder with a tokenizer, or pass tokenizer=")
    try:
        return AutoTokenizer.from_pretrained(source, **hub)
    except (OSError, ValueError, TypeError) as error:
        if Path(source).exists():
            raise InvalidArgument(
                "tokenizer",
                source,
                f"a folder with a tokenizer, or pass one to tokenizer= ({error})",
            ) from error
        raise SmcgenError(_cannot("tokenizer", source, error)) from error


def _cannot(what: str, source: str, error: Exception) -> str:
    where = (
        f"the folder {source!r} exists but could not be read"
        if Path(source).exists()
        else f"{source!r} is not a folder here, and the Hugging Face hub has no such name, could not be "
        "reached, or is switched off (HF_HUB_OFFLINE)"
    )
    return f"cannot load the {what}: {where}: {error}"


def longest(model: PreTrainedModel, tokenizer: Any) -> int:
    """Most tokens that the model and its tokenizer are made for."""
    config = model.config.get_text_config(decoder=True)
    limits = [getattr(config, key, None) for key in ("max_position_embeddings", "n_positions")]
    limits.append(getattr(tokenizer, "model_max_length", None))
    return min([int(x) for x in limits if x and x < _NO_LIMIT * 64], default=_NO_LIMIT)


@torch.inference_mode()
def weights_name(model: PreTrainedModel, source: Any) -> str:
    """A name for these weights: a word for people, and a hash of the configuration and some numbers."""
    config = {k: v for k, v in model.config.to_dict().items() if k not in _VOLATILE}
    digest = hashlib.sha256(json.dumps(config, sort_keys=True, default=str).encode())
    parameters = list(model.parameters())
    for parameter in parameters[:: max(1, len(parameters) // 16)]:
        flat = parameter.detach().reshape(-1)
        some = flat[:: max(1, flat.numel() // 64)][:64]
        digest.update(some.double().cpu().numpy().tobytes())
    named = (
        str(source)
        if isinstance(source, str | Path)
        else getattr(model.config, "_name_or_path", "")
    )
    folder = Path(named).expanduser()
    if named and folder.exists():
        named = folder.resolve().name
    return f"{named or type(model).__name__}@{digest.hexdigest()[:16]}"
