"""Laws of the next token, and exact draws from them.

`warp` turns logits into the log-probabilities of a `Sampling` law, `draw` inverts a distribution function at
given uniforms. Both are pure functions of tensors, for whole batches.
"""

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from smcgen.text.sampling import Sampling

_BLOCK = 512  # columns summed as one before the inverse is looked for inside one of them
_TOP_P_TRY = 1024  # most likely tokens tried before more of the vocabulary is sorted


def warp(logits: Float[Tensor, "m vocab"], sampling: Sampling) -> Float[Tensor, "m vocab"]:
    """Log-probabilities of the law `sampling` at these logits, in float32; -inf where it is zero.

    Ties are never broken by order: tokens as likely as the last one that `top_k` or `top_p` keeps are
    all kept. A tie at `temperature=0` goes to the lowest token id.
    """
    if sampling.temperature == 0:
        best = logits.argmax(-1, keepdim=True)
        law = torch.full_like(logits, -torch.inf, dtype=torch.float32)
        return law.scatter_(1, best, 0.0)
    x = logits.float()
    if sampling.temperature != 1:
        # relative to the maximum, so that a tiny temperature does not overflow
        x = (x - x.amax(-1, keepdim=True)) / sampling.temperature
    top_k = sampling.top_k
    if top_k is not None and top_k < x.shape[1]:
        floor = x.topk(top_k, sorted=False).values.amin(-1, keepdim=True)
        x = x.masked_fill(x < floor, -torch.inf)
    x = x.log_softmax(-1)
    if sampling.top_p < 1:
        x = x.masked_fill(x < _nucleus_floor(x, sampling), -torch.inf).log_softmax(-1)
    return x


def _nucleus_floor(
    x: Float[Tensor, "m vocab"], sampling: Sampling, width: int = _TOP_P_TRY
) -> Float[Tensor, "m 1"]:
    """Log-probability of the last token of the smallest set of most likely ones of mass `top_p`.

    It is looked for among the `width` most likely; the few rows whose law is flatter are tried again.
    """
    most = min(x.shape[1], sampling.top_k or x.shape[1])
    width = min(width, most)
    best = x.topk(width).values
    mass = best.double().exp_().cumsum(-1)
    last = (mass < sampling.top_p).sum(-1, keepdim=True)
    floor = best.gather(1, last.clamp_max(width - 1))
    if width < most:
        flat = (last[:, 0] == width).nonzero()[:, 0]
        if len(flat):
            floor[flat] = _nucleus_floor(x[flat], sampling, 8 * width)
    return floor


def normalise(log_mass: Float[Tensor, "m vocab"]) -> tuple[Tensor, Float64[Tensor, " m"]]:
    """Probabilities in proportion to `exp(log_mass)`, and the log of each row's mass.

    A row without mass has -inf, and all its probability on token 0, here and in `log_mass` itself.
    """
    top = log_mass.amax(-1)
    log_mass[:, 0].masked_fill_(top.isneginf(), 0.0)
    # softmax: `logsumexp` makes several copies, and an `exp` of -inf is slow on CPUs. Its own sum may be
    # off by 1e-5 in a large vocabulary, so that what it divided by is the greatest mass over this one
    law = log_mass.softmax(-1)
    return law, top.double() + (law.sum(-1).double() / law.amax(-1).double()).log()


def draw(law: Float[Tensor, "m vocab"], uniforms: Float64[Tensor, " m"]) -> Int64[Tensor, " m"]:
    """Tokens at which the distribution functions of the laws, given as probabilities, reach `uniforms`.

    Sums are in float64: a token of probability 1e-12 is drawn as often as it should be, one of
    probability zero never. Only one block of columns per row is looked at closely, so a large
    vocabulary costs one pass in float32.
    """
    vocab = law.shape[1]
    if vocab <= 2 * _BLOCK:
        return invert(law.double(), uniforms[:, None])[:, 0]
    whole = vocab - vocab % _BLOCK  # what is left is a block, too; padding would copy the law
    parts = law[:, :whole].unflatten(1, (-1, _BLOCK)), law[:, None, whole:]
    mass = torch.cat([part.sum(-1, dtype=torch.float64) for part in parts], 1)
    below = mass.cumsum(-1)
    block = invert(mass, uniforms[:, None], below)
    columns = block * _BLOCK + torch.arange(_BLOCK, device=law.device)
    inside = law.gather(1, columns.clamp_max(vocab - 1)).double()
    inside = inside.masked_fill(columns >= vocab, 0.0)
    before = below.gather(1, block) - mass.gather(1, block)
    rest = (uniforms[:, None] * below[:, -1:] - before).clamp_min(0) / inside.sum(-1, keepdim=True)
    return (block * _BLOCK + invert(inside, rest))[:, 0]


def invert(
    mass: Float64[Tensor, "m columns"],
    uniforms: Float64[Tensor, "m k"],
    cumulative: Float64[Tensor, "m columns"] | None = None,
) -> Int64[Tensor, "m k"]:
    """First columns whose cumulative mass exceeds the uniform parts of the whole; they have mass themselves."""
    cumulative = mass.cumsum(-1) if cumulative is None else cumulative
    index = torch.searchsorted(cumulative, uniforms * cumulative[:, -1:], right=True)
    # rounding may ask for all there is or more: the last column with mass is meant
    last = (cumulative < cumulative[:, -1:]).sum(-1, keepdim=True)
    return torch.minimum(index, last)


def allowed(log_p: Float[Tensor, "m vocab"]) -> Bool[Tensor, "m vocab"]:
    """Tokens of positive probability."""
    return ~log_p.isneginf()
