"""Pipelines of diffusers, by name or object, as kernels to steer."""

from smcgen.diffusion.pipelines.load import from_pipeline as from_pipeline
