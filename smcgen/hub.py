"""Loading models and tokenizers of the `transformers` library, with errors that say what to do."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedModel
from transformers.utils import logging

from smcgen.errors import InvalidArgument, SmcgenError

_TOKENIZER_FILES = ("token", "vocab", "spiece", ".model", "merges")


def pick_device(device: str | torch.device) -> torch.device:
    """ "auto" is a GPU if there is one."""
    if device != "auto":
        return torch.device(device)
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def source_of(name: str, path: str | Path) -> str:
    """A folder that exists or a name on the hub.

    Raises:
        InvalidArgument: it can only be a folder, and there is none.
    """
    text = str(path)
    folder = Path(text).expanduser()
    if folder.exists():
        return str(folder)
    # names on the hub are "owner/model" or "model"
    if isinstance(path, Path) or text.startswith((".", "/", "~")) or text.count("/") > 1:
        raise InvalidArgument(name, text, "a folder that exists, or a name on the Hugging Face hub")
    return text


def load_config(source: str, **hub: Any) -> dict[str, Any]:
    """The configuration of a saved model, whatever its class.

    Raises:
        InvalidArgument: it cannot be read; the message has the reason.
    """
    with _explained("model", source):
        config, _ = PreTrainedConfig.get_config_dict(source, **hub)
    if not config:
        raise InvalidArgument("model", source, "a folder with a config.json")
    return config


def load_model(
    loader: Any, source: str, device: str | torch.device, dtype: Any, **options: Any
) -> PreTrainedModel:
    """A model in evaluation mode, by an auto class or a class of its own.

    `dtype="auto"` is the saved one on a GPU and float32 on a CPU, where half precision is slow.
    """
    place = pick_device(device)
    if dtype == "auto" and place.type == "cpu":
        dtype = torch.float32
    with _explained("model", source), _quiet():
        try:
            model = loader.from_pretrained(source, dtype=dtype, **options)
        except TypeError as error:  # an option that neither the loader nor the model has
            allowed = f"options of from_pretrained ({error})"
            raise InvalidArgument("model_kwargs", sorted(options), allowed) from error
    if "device_map" not in options:
        torch.nn.Module.to(model, place)
    return model.eval()


def load_tokenizer(source: str, **hub: Any) -> Any:
    """A tokenizer.

    Raises:
        InvalidArgument: there is none, or it cannot be read.
    """
    folder = Path(source)
    # without files of its own, a tokenizer of the configuration's kind comes back empty, not an error
    if folder.is_dir() and not any(w in f.name for f in folder.iterdir() for w in _TOKENIZER_FILES):
        raise InvalidArgument("tokenizer", source, "a folder with a tokenizer, or pass tokenizer=")
    try:
        return AutoTokenizer.from_pretrained(source, **hub)
    except (OSError, ValueError, TypeError) as error:
        raise _cannot("tokenizer", source, error) from error


@contextmanager
def _explained(what: str, source: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        if isinstance(error, SmcgenError):
            raise
        raise _cannot(what, source, error) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """No bar for each file of weights: a library that loads three models would show nothing else."""
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _cannot(what: str, source: str, error: Exception) -> InvalidArgument:
    reason = " ".join(str(error).split())
    if Path(source).exists():
        return InvalidArgument(what, source, f"a folder with a {what} that can be read ({reason})")
    return InvalidArgument(
        what,
        source,
        f"a folder with a {what}, or its name on the Hugging Face hub, which has no such name, could not "
        f"be reached, or is switched off by HF_HUB_OFFLINE ({reason})",
    )
