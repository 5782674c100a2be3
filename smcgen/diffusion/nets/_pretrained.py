"""A torch module that is saved as safetensors and JSON, and loaded from there."""

import inspect
import json
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors.torch import load_file, save
from torch import nn

from smcgen.errors import InvalidArgument

Own = TypeVar("Own", bound=nn.Module)
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"


class Pretrained(nn.Module):
    """Base class: `config` holds the keyword arguments that build the module again."""

    config: dict[str, Any]

    def save_pretrained(self, folder: str | Path, half: bool = False) -> None:
        """Write weights and configuration into `folder`; `half` stores float16, which halves the file."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        dtype = torch.float16 if half else torch.float32
        weights = {k: v.detach().cpu().to(dtype).contiguous() for k, v in self.state_dict().items()}
        (folder / _WEIGHTS).write_bytes(save(weights))
        config = {"class": type(self).__name__, **self.config}
        (folder / _CONFIG).write_text(json.dumps(config, indent=2) + "\n")

    @classmethod
    def from_pretrained(
        cls: type[Own], folder: str | Path, device: str | torch.device = "cpu"
    ) -> Own:
        """The module saved in `folder`, in float32 and eval mode.

        Raises:
            InvalidArgument: the folder holds no such module.
        """
        path = Path(folder) / _CONFIG
        if not path.exists():
            raise InvalidArgument("folder", str(folder), f"a folder with {_CONFIG} and {_WEIGHTS}")
        config = json.loads(path.read_text())
        known = set(inspect.signature(cls).parameters)
        name = config.pop("class", None)
        if name != cls.__name__ or not set(config) <= known:
            raise InvalidArgument("folder", str(folder), f"a folder with a {cls.__name__}")
        module = cls(**config)
        weights = load_file(Path(folder) / _WEIGHTS)
        module.load_state_dict({k: v.float() for k, v in weights.items()})
        return module.to(device).eval().requires_grad_(False)
