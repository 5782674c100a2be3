"""`smcgen demo digits`: digits steered to a chosen class, judged by a network that had no part in it.

Three methods at the same number of denoiser calls for each sample that is handed out:

    plain       one sample, for n = 1
    best-of-n   n samples, the one that the classifier likes best
    FK          n particles, resampled at every second step; the best one, and one drawn by weight

A reward can be fooled, and the more it is optimised the more so. What counts is what the judge says: another
architecture, trained apart, never used to steer.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from jaxtyping import Bool, Float
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from smcgen.diffusion import Gaussian, edm, steer
from smcgen.diffusion.nets import ConvClassifier, MLPClassifier, VectorDenoiser
from smcgen.resampling import Every
from smcgen.shipped import shipped

CLASSES, SIDE, STEPS = 10, 8, 40


def as_vectors(images: torch.Tensor) -> torch.Tensor:
    """Images in [0, 1], shape (rows, 1, 8, 8), as the networks know them: 64 numbers in [-1, 1]."""
    return images.flatten(1) * 2 - 1


def as_images(data: torch.Tensor) -> torch.Tensor:
    """The inverse of `as_vectors`, what is beyond black and white cut off."""
    return (data / 2 + 0.5).clamp(0, 1).reshape(-1, 1, SIDE, SIDE)


@dataclass(frozen=True)
class Digits:
    """The three shipped models."""

    denoiser: VectorDenoiser = field(
        default_factory=lambda: VectorDenoiser.from_pretrained(shipped("digits-denoiser"))
    )
    classifier: MLPClassifier = field(
        default_factory=lambda: MLPClassifier.from_pretrained(shipped("digits-classifier"))
    )
    judge: ConvClassifier = field(
        default_factory=lambda: ConvClassifier.from_pretrained(shipped("digits-judge"))
    )

    def kernel(self, wanted: Sequence[int], steps: int = STEPS) -> Gaussian:
        """The reverse process, with a problem for each wanted class."""
        d = self.denoiser
        schedule = edm(steps, sigma_max=d.sigma_max, sigma_min=d.sigma_min, rho=5)
        return Gaussian(
            d, schedule, (SIDE**2,), predicts="data", decoder=as_images, prompts=tuple(wanted)
        )

    def reward(self, images: torch.Tensor, wanted: Sequence[int]) -> torch.Tensor:
        """Log-probability of the wanted class, by the classifier."""
        laws = self.classifier(as_vectors(images)).log_softmax(1)
        return laws[torch.arange(len(images)), torch.as_tensor(wanted)]

    def verdict(self, images: torch.Tensor, wanted: Sequence[int]) -> Bool[np.ndarray, " rows"]:
        """Whether the judge sees the wanted class."""
        with torch.no_grad():
            return self.judge(as_vectors(images)).argmax(1).numpy() == np.asarray(wanted)


@dataclass(frozen=True)
class Outcome:
    """One method at one n: a picture for each run, what the judge says, and what it cost.

    Attributes:
        images: (runs, 8, 8), in [0, 1].
        hits: what the judge says of each.
        rewards: log-probabilities of the wanted class by the classifier that steers.
        spread: mean distance of two pictures of one class from different runs: how much variety is left.
        founders: mean number of particles of time 0 that have descendants at the end; NaN without resampling.
        nfe: calls of the denoiser for each picture that is handed out.
        seconds: of the whole call, all runs together.
    """

    method: str
    n: int
    images: Float[np.ndarray, "runs side side"]
    hits: Bool[np.ndarray, " runs"]
    rewards: Float[np.ndarray, " runs"]
    spread: float
    founders: float
    nfe: int
    seconds: float


def compare(
    digits: Digits, ns: Sequence[int], repeats: int, seed: int = 0, every: int = 2
) -> Iterator[list[Outcome]]:
    """Outcomes of all methods, one n at a time; each of the ten classes `repeats` times."""
    wanted = [c for c in range(CLASSES) for _ in range(repeats)]
    kernel = digits.kernel(wanted)

    def run(n: int, resampling: Any, twist: Any) -> list[Any]:
        return steer(
            kernel,
            digits.reward,
            n_particles=n,
            twist=twist,
            resampling=resampling,
            ess_threshold=1.0,  # always, as Singhal et al. do; two particles would never be below a half
            key=jax.random.fold_in(jax.random.key(seed), n),
        )

    def outcome(method: str, n: int, runs: list[Any], chosen: list[int]) -> Outcome:
        images = torch.stack([r.samples[i] for r, i in zip(runs, chosen, strict=True)])
        flat = images.flatten(1).double().reshape(CLASSES, repeats, -1)
        apart = torch.cdist(flat, flat).numpy()
        pairs = max(repeats * (repeats - 1), 1)
        alive = [np.nan if "FK" not in method else float(r.smc.unique_founders) for r in runs]
        return Outcome(
            method,
            n,
            images[:, 0].double().numpy(),
            digits.verdict(images, wanted),
            np.array([r.rewards[i] for r, i in zip(runs, chosen, strict=True)]),
            float(apart.sum((1, 2)).mean() / pairs),
            float(np.mean(alive)),
            runs[0].cost.nfe // len(wanted),
            runs[0].cost.seconds,
        )

    for n in ns:
        free = run(n, "systematic", None)
        best = lambda runs: [r.best_index for r in runs]
        if n == 1:
            yield [outcome("plain", 1, free, best(free))]
            continue
        steered = run(n, Every(every), "difference")
        rng = np.random.default_rng([seed, n])
        drawn = [int(rng.choice(n, p=r.weights)) for r in steered]
        yield [
            outcome("best-of-n", n, free, best(free)),
            outcome("FK, drawn", n, steered, drawn),
            outcome("FK, best", n, steered, best(steered)),
        ]


def demo(
    ns: Sequence[int] = (1, 4, 16),
    seed: int = 0,
    out: Path = Path("runs/demo"),
    repeats: int = 5,
    console: Console | None = None,
) -> list[Outcome]:
    """Compare plain sampling, best-of-n and FK steering at the same number of denoiser calls.

    Writes `digits.json` and `digits.png` into `out` and prints the table.
    """
    from smcgen.demo import digits_report as report

    console = console or Console()
    torch.set_num_threads(1)  # these matrices are too small to share: a second thread only waits
    out.mkdir(parents=True, exist_ok=True)
    console.print(
        f"digits of 8 x 8 pixels, each of the ten classes {repeats} times, {STEPS} steps; reward: the classifier's "
        "log-probability of the class; judge: another network, not steered by"
    )
    outcomes: list[Outcome] = []
    ns = sorted({1, *ns})
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("digits", total=sum(ns))
        for new in compare(Digits(), ns, repeats, seed):
            outcomes += new
            bar.update(task, advance=new[-1].n, description=f"digits, n={new[-1].n} done")
    console.print(report.table(outcomes))
    report.write_json(outcomes, out / "digits.json")
    report.figure(outcomes, out / "digits.png")
    console.print(f"written: {out}/digits.json, {out}/digits.png")
    return outcomes
