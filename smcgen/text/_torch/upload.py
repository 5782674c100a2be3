"""Numbers of the host on their way to a device."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def upload(values: np.ndarray | Tensor, device: Any) -> Tensor:
    """On the device, or on the way: the host does not wait for what a GPU has to do before."""
    return torch.as_tensor(values).to(device, non_blocking=True)
