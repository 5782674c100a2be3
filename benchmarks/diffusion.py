"""What steering a diffusion model costs, and what it buys at the same number of denoiser calls.

Four comparisons, all of them with reward time taken off where it says so:

* overhead: `steer` of a `DDIMPipeline` against the pipeline itself, same batch and steps, resampled at every step, in
  seconds, and in seconds outside of the network, which is the same for all and whose own time differs more from one run
  to the next than all the rest takes;
* the same against the published resampling loop (Singhal et al. 2025), written straight down in torch;
* memory of all three, the peak of a run at k = 16;
* FK at k = 4, 8, 16 against best-of-n on the shipped digits: time, reward, and what the held-out judge says.

Run with `python benchmarks/diffusion.py`; `--full` has a larger network, more pairs and more runs.
"""

import ctypes
import gc
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel

from benchmarks._report import Report, alternating, median_and_spread, options_of, seconds
from smcgen.demo.digits import Digits, compare
from smcgen.diffusion import steer
from smcgen.resampling import Every

K, STEPS, STRENGTH, SIDE = 16, 20, 10.0, 16
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def pipeline(width: int) -> DDIMPipeline:
    """A UNet of SIDE x SIDE pixels with random weights."""
    torch.manual_seed(0)
    unet = UNet2DModel(
        sample_size=SIDE,
        layers_per_block=1,
        block_out_channels=(width, 2 * width),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=8,
    )
    pipe = DDIMPipeline(unet.eval(), DDIMScheduler(clip_sample=False)).to(DEVICE)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def redness(images: torch.Tensor) -> torch.Tensor:
    """A reward that costs next to nothing and disagrees about everything."""
    return images[:, 0].mean((1, 2)) - images[:, 1:].mean((1, 2, 3))


def plain(pipe: DDIMPipeline, k: int = K) -> float:
    """Seconds of the pipeline's own call."""
    return seconds(lambda: pipe(batch_size=k, eta=1.0, num_inference_steps=STEPS, output_type="np"))


def ours(pipe: DDIMPipeline, k: int = K) -> float:
    """Seconds of a steered run without its reward, pictures included."""
    options = {"num_inference_steps": STEPS, "eta": 1.0, "ess_threshold": 1.0}
    found = []
    wall = seconds(
        lambda: (
            found.append(
                steer(
                    pipe, redness, n_particles=k, strength=STRENGTH, resampling=Every(1), **options
                )
            )
            or found[0].samples
        )
    )
    cost = found[0].cost
    assert cost.nfe == k * STEPS
    return wall - cost.reward_seconds


@torch.no_grad()
def published(pipe: DDIMPipeline, k: int = K) -> float:
    """Seconds of the published loop, straight from the paper, without its reward: potential "difference"."""
    spent = 0.0

    def scored(data: torch.Tensor) -> torch.Tensor:
        nonlocal spent
        out = []
        spent += seconds(lambda: out.append(redness((data / 2 + 0.5).clamp(0, 1))))
        return out[0]

    def loop() -> None:
        scheduler, unet = DDIMScheduler(clip_sample=False), pipe.unet
        scheduler.set_timesteps(STEPS)
        bar = scheduler.alphas_cumprod
        x, before = torch.randn(k, 3, SIDE, SIDE, device=DEVICE), torch.zeros(k, device=DEVICE)
        for t in scheduler.timesteps:
            s = t - 1000 // STEPS
            here, there = bar[t], bar[s] if s >= 0 else torch.tensor(1.0)
            noise = unet(x, t).sample
            data = (x - (1 - here).sqrt() * noise) / here.sqrt()
            variance = (1 - there) / (1 - here) * (1 - here / there)
            x = there.sqrt() * data + (1 - there - variance).sqrt() * noise
            x = x + variance.sqrt() * torch.randn_like(x)
            reward = scored(data)
            weights = torch.exp(STRENGTH * (reward - before))
            ancestors = torch.multinomial(weights, k, replacement=True)
            x, before = x[ancestors], reward[ancestors]
        scored(x)
        (x / 2 + 0.5).clamp(0, 1).cpu()

    wall = seconds(loop)
    return wall - spent


class Timed:
    """Adds up the seconds that a network takes."""

    def __init__(self, network: torch.nn.Module):
        self.seconds, self._forward = 0.0, network.forward
        network.forward = self._timed

    def _timed(self, *args: Any, **kwargs: Any) -> Any:
        began, out = time.perf_counter(), self._forward(*args, **kwargs)
        if torch.cuda.is_initialized():
            torch.cuda.synchronize()
        self.seconds += time.perf_counter() - began
        return out


def peak(work: Callable[[], Any]) -> float:
    """MiB that a call needs at most beyond what the process holds before it (Linux)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak is now what is held
    before = _held("VmRSS")
    work()
    return (_held("VmHWM") - before) / 1024


def _held(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


def main() -> None:
    """Measure and print."""
    parser = options_of(__doc__ or "")
    parser.add_argument("--width", type=int, help="of the UNet")
    parser.add_argument("--pairs", type=int, help="how often each side is measured")
    parser.add_argument("--repeats", type=int, help="runs of each class of the digits")
    options = parser.parse_args()
    torch.set_num_threads(1)
    width = options.width or (64 if options.full else 32)
    report = Report(
        f"{K} particles, {STEPS} steps of DDIM with eta = 1, a UNet of width {width}, {SIDE} x {SIDE} pixels",
        ("side", "seconds", "ratio to plain", "seconds outside of the network", "peak MiB"),
    )
    pipe = pipeline(width)
    sides = {"plain": plain, "ours": ours, "published": published}
    pairs = options.pairs or (9 if options.full else 3)
    network = Timed(pipe.unet)
    spent: dict[str, list[float]] = {name: [] for name in sides}

    def measured(name: str) -> float:
        network.seconds = 0.0
        wall = sides[name](pipe)
        spent[name].append(wall - network.seconds)
        return wall

    times = alternating([partial(measured, name) for name in sides], pairs)
    outside = np.array([spent[name][1:] for name in sides]).T  # the first were the warm-up
    for i, (name, side) in enumerate(sides.items()):
        cells = times[:, i], times[:, i] / times[:, 0], outside[:, i]
        report.row(name, *map(median_and_spread, cells), f"{peak(partial(side, pipe)):.0f}")
    report.aim("steered_over_plain", np.median(times[:, 1] / times[:, 0]), 1.05)
    report.aim("steered_over_published", np.median(times[:, 1] / times[:, 2]), 1.05)
    rest, whole = np.median(outside, axis=0), np.median(times, axis=0)
    for k, name in ((0, "plain"), (2, "published")):
        alike = (whole[k] + rest[1] - rest[k]) / whole[k]
        report.aim(f"steered_over_{name}_were_the_network_as_fast", alike, 1.05)

    repeats = options.repeats or (20 if options.full else 4)
    found = [o for new in compare(Digits(), (1, 4, 8, 16), repeats) for o in new]
    rows = Report(
        f"digits, each class {repeats} times: equal denoiser calls in each pair of rows",
        ("method", "n", "nfe a picture", "judged right", "reward", "seconds"),
    )
    for o in found:
        rows.row(
            o.method, str(o.n), str(o.nfe), f"{o.hits.mean():.3f}", o.rewards.mean(), o.seconds
        )
    rows.show(False)
    by = {(o.method, o.n): o for o in found}
    gap = by["best-of-n", 16].hits.mean() - by["FK, best", 4].hits.mean()
    report.aim("judged_right_best_of_16_minus_fk_4", gap, 0.05)
    report.show(options.json)


if __name__ == "__main__":
    main()
