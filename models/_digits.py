"""Handwritten digits of 8 x 8 pixels, and how the three digit models are trained on them.

The data is scikit-learn's copy of the UCI set (Alpaydin and Kaynak 1998), which comes inside the package. Pixels 0..16
are scaled to [-1, 1]. 1500 images are for training and 297 are held out, the same ones for all three models.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models._descend import descend
from smcgen.diffusion.nets import ConvClassifier, MLPClassifier, VectorDenoiser

TRAINING = 1500
CLASSES = 10


@dataclass(frozen=True)
class Digits:
    """Images as vectors of 64 pixels in [-1, 1], and their classes."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


def load() -> tuple[Digits, Digits]:
    """Training and held-out images."""
    from sklearn.datasets import load_digits

    found = load_digits()
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(found.target)))
    images = torch.from_numpy(found.data).float() / 8 - 1
    labels = torch.from_numpy(found.target).long()
    train, test = order[:TRAINING], order[TRAINING:]
    return Digits(images[train], labels[train]), Digits(images[test], labels[test])


def shifted(images: Tensor) -> Tensor:
    """Each image moved by at most one pixel each way, the paper filled in."""
    n = len(images)
    padded = F.pad(images.view(n, 8, 8), (1, 1, 1, 1), value=-1.0)
    across, down = torch.randint(0, 3, (2, n, 1, 1))
    rows, columns = down + torch.arange(8)[:, None], across + torch.arange(8)
    return padded[torch.arange(n)[:, None, None], rows, columns].reshape(n, 64)


def denoising_loss(model: nn.Module, x: Tensor, sigma: Tensor, z: Tensor, s: float) -> Tensor:
    """Squared error of D at noise level sigma, weighted so that every level counts alike (EDM)."""
    weight = (sigma**2 + s**2) / (sigma * s) ** 2
    return (weight * (model(x + sigma[:, None] * z, sigma) - x).square().mean(-1)).mean()


def held_out_loss(model: VectorDenoiser, data: Digits, repeats: int = 16) -> float:
    """The loss on held-out digits, at the same noise each time it is asked."""
    generator = torch.Generator().manual_seed(0)
    x = data.images.repeat(repeats, 1)
    sigma = levels(len(x), model, generator)
    z = torch.randn(x.shape, generator=generator)
    with torch.no_grad():
        return denoising_loss(model, x, sigma, z, model.sigma_data).item()


def levels(n: int, model: VectorDenoiser, generator: torch.Generator | None = None) -> Tensor:
    """Noise levels to train at: log-normal around 0.45, within what the model is for."""
    drawn = (1.4 * torch.randn(n, generator=generator) - 0.8).exp()
    return drawn.clamp(model.sigma_min, model.sigma_max)


def train_denoiser(data: Digits, test: Digits, steps: int, rows: int, hidden: int) -> nn.Module:
    """EDM training; what ships is the moving average of the weights."""
    model = VectorDenoiser(hidden=hidden)
    average = copy.deepcopy(model)

    def loss(step: int) -> Tensor:
        x = data.images[torch.randint(len(data), (rows,))]
        return denoising_loss(model, x, levels(rows, model), torch.randn_like(x), model.sigma_data)

    def after(step: int) -> None:
        keep = min(0.999, step / (step + 10))
        with torch.no_grad():
            for mean, new in zip(average.parameters(), model.parameters(), strict=True):
                mean.lerp_(new, 1 - keep)

    check = lambda: f"held-out loss {held_out_loss(average.eval(), test):.4f}"
    descend(model, loss, steps, 2e-3, check, after)
    return average


def train_classifier(
    model: nn.Module, data: Digits, test: Digits, steps: int, rows: int, noise: float
) -> None:
    """Cross entropy on shifted digits with up to `noise` of Gaussian noise a pixel."""

    def loss(step: int) -> Tensor:
        at = torch.randint(len(data), (rows,))
        x = shifted(data.images[at])
        x = x + noise * torch.rand(rows, 1) * torch.randn_like(x)
        return F.cross_entropy(model(x), data.labels[at], label_smoothing=0.02)

    descend(model, loss, steps, 3e-3, lambda: f"accuracy {accuracy(model, test):.4f}")


def train_steering(data: Digits, test: Digits, steps: int, rows: int) -> nn.Module:
    """The classifier to steer by. It has seen noise, as it will be asked about blurred digits."""
    model = MLPClassifier()
    train_classifier(model, data, test, steps, rows, noise=0.5)
    return model


def train_judge(data: Digits, test: Digits, steps: int, rows: int) -> nn.Module:
    """The classifier that judges: another architecture, other random numbers."""
    model = ConvClassifier()
    train_classifier(model, data, test, steps, rows, noise=0.2)
    return model


def accuracy(model: nn.Module, data: Digits) -> float:
    """Share of images whose class has the largest logit."""
    was = model.training
    with torch.no_grad():
        right = model.eval()(data.images).argmax(-1) == data.labels
    model.train(was)
    return right.double().mean().item()
