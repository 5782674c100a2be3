"""One token of many rows: drawn from the proposal, with what the three laws say about it."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from smcgen.text._torch.draw import allowed, draw, normalise, warp
from smcgen.text.sampling import Sampling


class Drawn(NamedTuple):
    """A token for each row, -1 where none is allowed, and its log-probabilities in nats."""

    tokens: Int64[Tensor, " m"]
    log_base: Float64[Tensor, " m"]
    log_factor: Float64[Tensor, " m"]
    log_proposal: Float64[Tensor, " m"]


def draw_tokens(
    logits: Float[Tensor, "m vocab"],
    base: Sampling,
    proposal: Sampling | None,
    log_phi: Float[Tensor, "m vocab"] | None,
    uniforms: Float64[Tensor, " m"] | None,
    given: Int64[Tensor, " m"] | None = None,
) -> Drawn:
    """Draw from `q ∝ p phi` (or from the law `proposal`, restricted to p's tokens, times phi).

    Tokens that are `given` (not -1) are taken as they are; the laws say of them what they say of any.
    Without uniforms all of them are given.
    """
    log_p = warp(logits, base)
    log_q = log_p
    if proposal is not None:
        log_q = warp(logits, proposal).masked_fill(~allowed(log_p), -torch.inf)
    if log_phi is not None:
        log_q = log_q + log_phi
    q, log_mass = (None, None) if log_q is log_p else normalise(log_q)
    if uniforms is None:
        assert given is not None
        tokens = given
    else:
        drawn = draw(log_p.exp() if q is None else q, uniforms)
        tokens = drawn if given is None else torch.where(given < 0, drawn, given)
    at = lambda law: law.gather(1, tokens[:, None])[:, 0].double()
    log_base = at(log_p)
    log_factor = torch.zeros_like(log_base) if log_phi is None else at(log_phi)
    if log_mass is None:
        return Drawn(tokens, log_base, log_factor, log_base)
    dead = log_mass.isneginf()
    log_proposal = at(log_q) - log_mass.masked_fill(dead, 0.0)
    return Drawn(tokens.masked_fill(dead, -1), log_base, log_factor, log_proposal)
