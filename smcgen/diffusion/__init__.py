"""Denoising as a state-space model: diffusion, flow and masked-discrete models, steered by any reward."""
