"""Loading what image rewards are made of."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from smcgen.errors import InvalidArgument
from smcgen.hub import load_model, pick_device, source_of


def precision(device: str, dtype: Any) -> Any:
    """ "auto" is half precision on a GPU, and single on a CPU, where half is slow."""
    if dtype != "auto":
        return dtype
    return torch.float16 if pick_device(device).type == "cuda" else torch.float32


def model_of(loader: Any, model: Any, device: str, dtype: Any) -> Any:
    """A model by name or folder, in evaluation mode; a loaded one as it is."""
    if not isinstance(model, str | Path):
        return model.eval()
    return load_model(loader, source_of("model", model), device, precision(device, dtype))


def processor_of(loader: Any, processor: Any, model: Any, name: str = "processor") -> Any:
    """The processor of a model: a loaded one, one by name or folder, or the model's own."""
    source = processor if processor is not None else model
    if not isinstance(source, str | Path):
        if processor is None:
            raise InvalidArgument(name, None, f"the model's {name}, because the model is loaded")
        return processor
    return fetched(lambda: loader.from_pretrained(source_of(name, source)), name, source)


def file_of(repository: str, name: str) -> str:
    """A file of a repository on the hub, downloaded once."""
    from huggingface_hub import hf_hub_download

    return fetched(lambda: hf_hub_download(repository, name), "file", f"{repository}/{name}")


def fetched(load: Callable[[], Any], name: str, source: Any) -> Any:
    """What `load` gives, or an error that says what could not be had."""
    try:
        return load()
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        allowed = f"a file or folder that can be read, or a name on the hub that can be reached ({reason})"
        raise InvalidArgument(name, str(source), allowed) from error


def weights_of(path: str) -> dict[str, torch.Tensor]:
    """Weights of a safetensors or torch file, read without running anything in it."""
    if path.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def one_layer(weights: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Linear layers to one number, between which nothing happens, as one: `x @ weight + bias`."""
    names = {name.rsplit(".", 1)[0] for name in weights}
    ordered = sorted(names, key=lambda name: int(name.split(".")[-1]))
    layers = [(weights[f"{n}.weight"].double(), weights[f"{n}.bias"].double()) for n in ordered]
    if not layers or len(layers[-1][1]) != 1:
        raise KeyError("layers.0.weight, ..., to one output")
    weight, bias = layers[0]
    for w, b in layers[1:]:
        weight, bias = w @ weight, w @ bias + b
    return weight[0].float(), bias[0].float()
