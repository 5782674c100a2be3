"""A denoiser of vectors: a residual MLP with the preconditioning of Karras et al. (2022)."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import layer_norm, silu

from smcgen.diffusion.nets._pretrained import Pretrained


class VectorDenoiser(Pretrained):
    """`D(x, sigma) = E[x_0 | x_0 + sigma z = x]`, z standard normal, for vectors x_0.

    D = c_skip x + c_out F(c_in x, log(sigma) / 4), with c_skip = s^2 / (sigma^2 + s^2), c_in = 1 / sqrt(sigma^2 + s^2)
    and c_out = sigma s / sqrt(sigma^2 + s^2), s the data's standard deviation (Karras et al. 2022, table 1). F is a
    residual MLP whose blocks are shifted, scaled and gated by the noise level (AdaLN: Peebles and Xie 2023).

    Args:
        dim: length of a vector.
        hidden, blocks: width and number of residual blocks.
        sigma_data: s.
        sigma_min, sigma_max: the noise levels it was trained for; a schedule should stay within.
    """

    def __init__(
        self,
        dim: int = 64,
        hidden: int = 192,
        blocks: int = 3,
        sigma_data: float = 0.75,
        sigma_min: float = 0.02,
        sigma_max: float = 20.0,
    ):
        super().__init__()
        self.config = {
            "dim": dim,
            "hidden": hidden,
            "blocks": blocks,
            "sigma_data": sigma_data,
            "sigma_min": sigma_min,
            "sigma_max": sigma_max,
        }
        self.sigma_data, self.sigma_min, self.sigma_max = sigma_data, sigma_min, sigma_max
        self.level = nn.Sequential(
            nn.Linear(64, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU()
        )
        self.inside = nn.Linear(dim, hidden)
        self.blocks = nn.ModuleList(_Block(hidden) for _ in range(blocks))
        self.outside = nn.Linear(hidden, dim)
        nn.init.zeros_(self.outside.weight)
        nn.init.zeros_(self.outside.bias)

    def forward(
        self, x: Float[Tensor, "n dim"], sigma: float | Float[Tensor, ""] | Float[Tensor, " n"]
    ) -> Float[Tensor, "n dim"]:
        """x_0-hat at noise level `sigma`: one for all rows, or one a row."""
        sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).reshape(-1, 1)
        total = sigma**2 + self.sigma_data**2
        level = self.level(_waves(sigma.log() / 4))
        h = self.inside(x * total.rsqrt())
        for block in self.blocks:
            h = block(h, level)
        out = self.outside(layer_norm(h, h.shape[-1:]))
        return x * (self.sigma_data**2 / total) + out * (sigma * self.sigma_data * total.rsqrt())


class _Block(nn.Module):
    def __init__(self, hidden: int):
        super().__init__()
        self.modulation = nn.Linear(hidden, 3 * hidden)
        self.up, self.down = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, h: Tensor, level: Tensor) -> Tensor:
        shift, scale, gate = self.modulation(level).chunk(3, -1)
        inner = layer_norm(h, h.shape[-1:]) * (1 + scale) + shift
        return h + (1 + gate) * self.down(silu(self.up(inner)))


def _waves(u: Float[Tensor, "n 1"]) -> Float[Tensor, "n 64"]:
    """Sines and cosines of u at 32 frequencies, from 1/2 to 5.7 cycles per unit of u."""
    frequencies = torch.logspace(-1, 2.5, 32, base=2.0, dtype=u.dtype, device=u.device)
    angles = 2 * math.pi * u * frequencies
    return torch.cat([angles.sin(), angles.cos()], -1)
