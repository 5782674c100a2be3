r"""Attention of a population that shares its prompts.

With prompt keys `K_p` stored once per problem and a suffix `K_s` per row, attention over both is exact when the
parts are merged by their sums:

    o = o_p + w (o_s - o_p),    w = e^{l_s} / (e^{l_p} + e^{l_s}) = sigmoid(l_s - l_p)

with `o_i` the attention over part i alone and `l_i = log sum exp` of its scores. The prompt part is
one matrix product for all the rows of a problem, so a prompt is read once instead of once per row.

It is registered with `transformers` under `NAME` and reads the `Plan` of the pass in progress in
this thread; without one it is `sdpa`, so a model that carries the name behaves as before. Soft caps,
sinks, and windows (through the model's own mask functions) are covered.
"""

import threading
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    causal_mask_function,
    sdpa_mask,
)
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from smcgen.errors import ModelError
from smcgen.text._torch.plan import Plan

NAME = "smcgen"
# arguments by which a model asks its attention for something that is not in the equation above
_FOREIGN = ("position_bias", "indices", "block_indices", "cu_seq_lens_q", "kv")


class _Active(threading.local):
    plan: Plan | None = None


ACTIVE = _Active()


def attention(
    module: torch.nn.Module,
    query: Float[Tensor, "m heads k dim"],
    key: Float[Tensor, "m kv_heads T dim"],
    value: Float[Tensor, "m kv_heads T dim_v"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **kwargs: Any,
) -> tuple[Float[Tensor, "m k heads dim_v"], None]:
    """Attention of the pass in progress; `sdpa` if there is none."""
    plan = ACTIVE.plan
    if plan is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    plan.attended = True
    for name in _FOREIGN:
        if kwargs.get(name) is not None:
            raise ModelError(f"{type(module).__name__} uses attention with {name!r}")
    scale = float(query.shape[-1] ** -0.5 if scaling is None else scaling)
    m, heads, k, dim = query.shape
    mask = plan.suffix_mask if attention_mask is None else attention_mask[..., plan.width :]
    if plan.prompts is None and k > 1 and softcap is None and s_aux is None:
        # a chunk of rows of their own is what the fused kernels are made for
        fresh = plan.fresh and attention_mask is None
        if not fresh:  # with a mask, they know no grouped heads
            key = key.repeat_interleave(heads // key.shape[1], dim=1)
            value = value.repeat_interleave(heads // value.shape[1], dim=1)
        out = torch.nn.functional.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=None if fresh else mask,
            is_causal=fresh,
            scale=scale,
            enable_gqa=key.shape[1] != heads,
        )
        return out.transpose(1, 2).contiguous(), None
    # query heads that share a key head are queries of one product
    q = query.reshape(m, key.shape[1], -1, dim)
    outs, logs = _part(q, key, value, mask, k, scale, softcap)
    if plan.prompts is not None:
        prompt_mask = plan.prompt_mask
        if attention_mask is not None:
            prompt_mask = plan.group(attention_mask[..., : plan.width].expand(m, 1, k, -1))
        keys, values = (x[: plan.groups, :, : plan.width] for x in plan.prompts.layers[plan.layer])
        shared = _part(plan.fold(q), keys, values, prompt_mask, k, scale, softcap)
        prompt_outs, prompt_logs = (plan.unfold(x, m) for x in shared)
        outs = torch.lerp(prompt_outs, outs, torch.sigmoid(logs - prompt_logs))
        if s_aux is not None:
            logs = torch.logaddexp(logs, prompt_logs)
    if s_aux is not None:  # a sink takes part in the sum and says nothing
        sink = s_aux.float().view(1, key.shape[1], -1, 1).repeat_interleave(k, dim=2)
        outs = outs * torch.sigmoid(logs - sink)
    return outs.to(value.dtype).reshape(m, heads, k, -1).transpose(1, 2).contiguous(), None


def _part(
    q: Float[Tensor, "b kv_heads N dim"],
    k: Float[Tensor, "b kv_heads T dim"],
    v: Float[Tensor, "b kv_heads T dim_v"],
    mask: Bool[Tensor, "b c k T"] | None,
    chunk: int,
    scaling: float,
    softcap: float | None,
) -> tuple[Float[Tensor, "b kv_heads N dim_v"], Float[Tensor, "b kv_heads N 1"]]:
    """Attention over one part, and the log of the sum of its exponentials, in float32.

    The N queries are (..., chunk): `mask` (True where seen) is the same for whatever comes before.
    """
    exact = q.dtype == torch.float32
    if exact:
        s = torch.matmul(q * scaling, k.transpose(2, 3))
    else:
        s = torch.matmul(q, k.transpose(2, 3)).float().mul_(scaling)
    if softcap is not None:
        s = s.div_(softcap).tanh_().mul_(softcap)
    if mask is not None:
        b, heads, _, width = s.shape
        rows = s.view(b, heads, mask.shape[1], -1, chunk, width)
        # a part may be wholly masked: its maximum stays finite, and its weight is 0
        rows.masked_fill_(~mask[:, None, :, None], torch.finfo(s.dtype).min)
    top = s.amax(-1, keepdim=True)
    s.sub_(top).exp_()
    total = s.sum(-1, keepdim=True)
    # half precision overflows unless normalised first; in float32 the smaller tensor is divided
    out = torch.matmul(s, v).div_(total) if exact else torch.matmul(s.div_(total).to(v.dtype), v)
    return out.float(), top + total.log_()


def mask(**kwargs: Any) -> Tensor | None:
    """What each query sees, by the model's own mask function at the rows' own positions.

    None where that is every earlier token: the plan's masks then say all there is to say.
    """
    plan = ACTIVE.plan
    if plan is None:
        return sdpa_mask(**kwargs)
    function = kwargs["mask_function"]
    if function is causal_mask_function or plan.sees_all(function):
        return None
    return plan.visible(function)


ALL_ATTENTION_FUNCTIONS.register(NAME, attention)
ALL_MASK_ATTENTION_FUNCTIONS.register(NAME, mask)
