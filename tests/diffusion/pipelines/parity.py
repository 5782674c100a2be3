"""A pipeline's own loop with the noise of a run of ours."""

import dataclasses
import sys

import torch

import smcgen
from smcgen.diffusion import DiffusionModel
from smcgen.diffusion.backends.torch import Torch
from smcgen.diffusion.pipelines import from_pipeline


class Recording(Torch):
    """The torch backend, remembering all noise it drew."""

    def __init__(self, drawn):
        super().__init__()
        object.__setattr__(self, "drawn", drawn)

    def normal(self, key, rows, shape):
        self.drawn.append(super().normal(key, rows, shape))
        return self.drawn[-1].clone()


def ours(pipe, prompts, n, **options):
    """Images of an unsteered run, (rows, height, width, 3), the noise of step 0, and that of each step."""
    drawn = []
    kernel = from_pipeline(pipe, prompts, **options)
    kernel = dataclasses.replace(kernel, backend=Recording(drawn))
    run = smcgen.smc(DiffusionModel(kernel, num_problems=kernel.num_problems), 0, n)
    rows = run.particles.data.reshape(-1, *kernel.shape)
    assert len(rows) == len(drawn[0])
    with torch.no_grad():
        images = kernel.decode(rows).permute(0, 2, 3, 1).numpy()
    first, later = drawn[0], iter(drawn[1:])
    steps = [torch.zeros_like(first) if d else next(later) for d in kernel.deterministic]
    return images, first, steps


def theirs(monkeypatch, pipe, first, steps, **options):
    """Images of the pipeline itself, fed with that noise."""
    queue = iter(steps)
    patched = {type(pipe.scheduler).__module__: lambda *a, **k: next(queue)}
    if "DDPM" in type(pipe).__name__ or "DDIM" in type(pipe).__name__:
        patched[type(pipe).__module__] = lambda *a, **k: first
        options["batch_size"] = len(first)
    else:
        options["latents"] = first.clone()
    with monkeypatch.context() as patch:
        for module, noise in patched.items():
            if hasattr(sys.modules[module], "randn_tensor"):
                patch.setattr(sys.modules[module], "randn_tensor", noise)
        return pipe(output_type="np", **options).images
