"""Measure the shipped diffusion models: ``python -m models.evaluate_diffusion``.

Results go to ``metrics.json`` in each model's folder and into the table of its card.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from transformers import BertForMaskedLM

import smcgen
from models import _digits, brackets
from models._common import start
from models.evaluate import Metrics, publish
from models.train_brackets import bound
from smcgen.diffusion.backends.torch import Torch
from smcgen.diffusion.kernels import Gaussian, Masked
from smcgen.diffusion.model import DiffusionModel
from smcgen.diffusion.nets import ConvClassifier, MLPClassifier, VectorDenoiser
from smcgen.diffusion.schedules import edm

COMMAND = "python -m models.evaluate_diffusion"


def digits_metrics(root: Path, samples: int, seed: int) -> dict[str, Metrics]:
    """Held-out loss and accuracy, and what the judge makes of samples of the denoiser."""
    _, test = _digits.load()
    denoiser = VectorDenoiser.from_pretrained(root / "digits-denoiser")
    classifier = MLPClassifier.from_pretrained(root / "digits-classifier")
    judge = ConvClassifier.from_pretrained(root / "digits-judge")
    schedule = edm(40, sigma_max=denoiser.sigma_max, sigma_min=denoiser.sigma_min, rho=5)
    model = DiffusionModel(Gaussian(denoiser, schedule, (64,), predicts="data"))
    x = smcgen.smc(model, seed, samples, ess_threshold=0, keep="summary").particles.data
    with torch.no_grad():
        sure, classes = judge(x).softmax(-1).max(-1)
        same = classifier(x).argmax(-1) == classes
    share = np.bincount(classes.numpy(), minlength=10) / samples
    return {
        "digits-denoiser": {
            "held-out loss": _digits.held_out_loss(denoiser, test),
            "judge's confidence in samples of 40 steps": sure.mean().item(),
            "judge and classifier agree on samples": same.double().mean().item(),
            "share of the rarest class": float(share.min()),
            "share of the commonest class": float(share.max()),
        },
        "digits-classifier": {"held-out accuracy": _digits.accuracy(classifier, test)},
        "digits-judge": {"held-out accuracy": _digits.accuracy(judge, test)},
    }


def brackets_metrics(folder: Path, samples: int, seed: int) -> Metrics:
    """The bound, and how many samples are balanced, at one character a step and at four."""
    model = BertForMaskedLM.from_pretrained(folder).eval()
    metrics = {
        "bound, nats per character": bound(model),
        "entropy, nats per character": brackets.entropy(),
    }
    network = lambda x, time: model(input_ids=x).logits
    for steps in (brackets.LENGTH, 6):
        kernel = Masked(
            network, brackets.LENGTH, brackets.MASK, steps, order="random-count", backend=Torch()
        )
        run = smcgen.smc(DiffusionModel(kernel), seed, samples, ess_threshold=0, keep="summary")
        texts = [brackets.text(row) for row in run.particles.data.numpy()]
        metrics[f"balanced, {steps} steps"] = float(np.mean([*map(brackets.is_balanced, texts)]))
    return metrics


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).parent)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--samples", type=int, default=2000)
    args = parser.parse_args(argv)
    start(args.seed)
    found = digits_metrics(args.root, args.samples, args.seed)
    if (args.root / "brackets-mdlm").exists():
        found["brackets-mdlm"] = brackets_metrics(
            args.root / "brackets-mdlm", args.samples, args.seed
        )
    for name, metrics in found.items():
        publish(args.root / name, metrics, COMMAND)


if __name__ == "__main__":
    main()
