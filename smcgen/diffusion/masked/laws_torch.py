"""Laws of masked tokens in torch: draws, densities and confidences, touching only the positions asked about.

`logits` has shape (rows, L, V), -inf where a token is not allowed; `where` is a NumPy mask of (rows, L).
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from smcgen.diffusion.masked.orders import Confidence
from smcgen.text._torch.draw import draw, invert, warp
from smcgen.text.sampling import Sampling

_LARGEST = 2**25  # numbers of a law that are held at once, in double precision


def draw_tokens(logits: Tensor, sampling: Sampling, uniforms: Any, where: Any, x: Tensor) -> Tensor:
    """x with an exact draw at each position of `where`, by inversion in double precision."""
    new = x.clone()
    for at, law in _laws(logits, sampling, where):
        u = torch.from_numpy(uniforms.reshape(-1)[at.cpu().numpy()]).to(law.device)
        new.view(-1)[at] = draw(law.exp(), u)
    return new


def draw_many(logits: Tensor, sampling: Sampling, uniforms: Any, where: Any, x: Tensor) -> Tensor:
    """k copies of each row with draws of their own; uniforms (rows, L, k). Shape (rows * k, L)."""
    k = uniforms.shape[-1]
    new = x.repeat_interleave(k, 0)
    columns = new.view(len(x), k, -1).transpose(1, 2)  # (rows, L, k): a view of new
    length = x.shape[1]
    for at, law in _laws(logits, sampling, where):
        u = torch.from_numpy(uniforms.reshape(-1, k)[at.cpu().numpy()]).to(law.device)
        columns[at // length, at % length] = invert(law.double().exp(), u)
    return new


def best_tokens(logits: Tensor, where: Any, x: Tensor) -> Tensor:
    """x with the most likely token at each position of `where`."""
    chosen = logits.argmax(-1)
    return torch.where(_mask(where, x.device), chosen, x)


def log_prob(logits: Tensor, sampling: Sampling, ids: Tensor, where: Any) -> np.ndarray:
    """Sum over `where` of the log-probabilities of `ids`, shape (rows,)."""
    found = np.zeros(where.size)
    for at, law in _laws(logits, sampling, where):
        log_p = law.gather(1, ids.reshape(-1)[at][:, None])[:, 0]
        found[at.cpu().numpy()] = log_p.double().cpu().numpy()
    return found.reshape(where.shape).sum(-1)


def confidences(logits: Tensor, sampling: Sampling, kind: Confidence, where: Any) -> np.ndarray:
    """How sure the law of each position of `where` is, nats; 0 elsewhere. Shape (rows, L)."""
    found = np.zeros(where.size)
    for at, law in _laws(logits, sampling, where):
        if kind == "entropy":
            sure = torch.where(law > -torch.inf, law.exp() * law, 0.0).sum(-1)
        else:
            top = law.topk(2).values
            sure = top[:, 0] if kind == "probability" else top[:, 0] - top[:, 1].clamp_min(-700)
        found[at.cpu().numpy()] = sure.double().cpu().numpy()
    return found.reshape(where.shape)


def masked(x: Tensor, mask_id: int) -> np.ndarray:
    """Positions that are masked, on the host."""
    return (x == mask_id).cpu().numpy()


def put_mask(x: Tensor, where: Any, mask_id: int) -> Tensor:
    """x masked at `where`."""
    return x.masked_fill(_mask(where, x.device), mask_id)


def placed(x: Any, part: slice, new: Any) -> Any:
    """x with `new` at a part of the positions; tensors, or arrays of the host."""
    if part == slice(None):
        return new
    whole = x.clone() if isinstance(x, Tensor) else x.copy()
    whole[:, part] = new
    return whole


def differs(x: Tensor, y: Tensor) -> np.ndarray:
    """Positions at which two populations differ, on the host."""
    return (x != y).cpu().numpy()


def forbid(logits: Tensor, ids: tuple[int, ...]) -> Tensor:
    """Logits with some tokens at -inf."""
    return logits.index_fill(-1, torch.tensor(ids, device=logits.device), -torch.inf)


def _mask(where: Any, device: Any) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(where)).to(device)


def _laws(logits: Tensor, sampling: Sampling, where: Any) -> Iterator[tuple[Tensor, Tensor]]:
    """Places (row * L + position) and the laws there, a part at a time."""
    vocab = logits.shape[-1]
    flat = logits.reshape(-1, vocab)
    index = torch.from_numpy(np.flatnonzero(where)).to(logits.device)
    for at in index.split(max(1, _LARGEST // vocab)):
        yield at, warp(flat[at], sampling)
