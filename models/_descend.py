"""The training loop of the diffusion models: AdamW in float32 on one thread."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn


def descend(
    model: nn.Module, loss_of: Callable[[int], Tensor], steps: int, lr: float,
    check: Callable[[], str], after: Callable[[int], None] = lambda step: None,
) -> None:  # fmt: skip
    """AdamW with a warm-up and a cosine down to a tenth of `lr`.

    `loss_of(step)` draws its own batch; `after(step)` follows each update; `check()` is printed now and then.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.99), weight_decay=0.01)
    model.train()
    began = time.time()
    for step in range(1, steps + 1):
        cosine = 0.55 + 0.45 * math.cos(math.pi * step / steps)
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, step / 100) * cosine
        optimizer.zero_grad()
        loss_of(step).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        after(step)
        if step % 250 == 0 or step == steps:
            print(f"step {step} {check()} {time.time() - began:.0f}s", flush=True)
    model.eval()
