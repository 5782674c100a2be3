"""One forward pass of any decoder-only model, on our cache and only where outputs are read."""

import threading
from typing import Any
from weakref import WeakKeyDictionary

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformers import Cache, PreTrainedModel

from smcgen.errors import ModelError
from smcgen.text._torch.attention import ACTIVE, NAME
from smcgen.text._torch.plan import Plan

_LOCKS: "WeakKeyDictionary[PreTrainedModel, threading.RLock]" = WeakKeyDictionary()


class PlanCache(Cache):
    """The plan of a pass, in the shape in which models expect a cache.

    It reports a length of zero because rows have lengths of their own, which models are told by
    `position_ids` and masks.
    """

    def __init__(self, plan: Plan):
        super().__init__(layers=[])
        self.plan = plan

    def update(
        self, key_states: Tensor, value_states: Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ):
        return self.plan.write(layer_idx, key_states, value_states)

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
        return self.plan.total, 0

    @property
    def is_sliding(self) -> list[bool]:
        return [False]


def embedding(model: PreTrainedModel) -> Float[Tensor, "vocab dim"]:
    """A model's input embedding."""
    weight = model.get_input_embeddings().weight
    assert isinstance(weight, Tensor)
    return weight


class Forward:
    """How to run a model.

    Args:
        model: any decoder-only transformers model, with or without a head.
        own_attention: whether attention is ours; otherwise the model's, under an explicit mask.
    """

    def __init__(self, model: PreTrainedModel, own_attention: bool):
        self.model, self.own_attention = model, own_attention
        body = model.base_model
        self.body: torch.nn.Module = body if isinstance(body, torch.nn.Module) else model
        found: list[Any] = [getattr(m, "config", None) for m in model.modules()]
        configs = {id(c): c for c in found if hasattr(c, "_attn_implementation_internal")}
        self._configs = list(configs.values())
        self.device = embedding(model).device
        self._lock = _LOCKS.setdefault(model, threading.RLock())
        # pooling heads look for padding in the ids; their linear layer is all that is needed
        self._pooled = None
        if "SequenceClassification" in type(model).__name__:
            self._pooled = getattr(model, "score", None) or getattr(model, "classifier", None)
            if self._pooled is None:
                raise ModelError(
                    f"{type(model).__name__} has no head named 'score' or 'classifier'"
                )

    def __call__(
        self,
        plan: Plan,
        ids: Int[Tensor, "m k"],
        read: tuple[Int[Tensor, " r"], Int[Tensor, " r"]] | None,
    ) -> Float[Tensor, "r out"] | None:
        """Append `ids` by `plan`; the head's output at (row, position) pairs, None if none is read."""
        kwargs: dict[str, Any] = {
            "input_ids": ids,
            "position_ids": plan.positions,
            "past_key_values": PlanCache(plan),
            "use_cache": True,
        }
        if not self.own_attention:
            kwargs["attention_mask"] = self._additive(plan, ids)
        plan.begin()
        with self._lock:
            before = [c._attn_implementation_internal for c in self._configs]
            try:
                ACTIVE.plan = plan
                if self.own_attention:
                    for config in self._configs:
                        config._attn_implementation_internal = NAME
                out = self._run(kwargs, read)
            finally:
                ACTIVE.plan = None
                for config, name in zip(self._configs, before, strict=True):
                    config._attn_implementation_internal = name
        if self.own_attention and not plan.attended:
            raise ModelError(
                f"{type(self.model).__name__} does not use transformers' attention interface"
            )
        return out

    def _run(
        self, kwargs: dict[str, Any], read: tuple[Tensor, Tensor] | None
    ) -> Float[Tensor, "r out"] | None:
        if read is None:
            self.body(**kwargs)
            return None
        if self.body is self.model or self._pooled is not None:
            return self._head(_first(self.body(**kwargs))[read[0], read[1]])
        # the rest of the model (head, caps, scales) runs on what is read alone
        fired = []

        def select(module: torch.nn.Module, args: Any, output: Any) -> Any:
            fired.append(True)
            hidden = _first(output)[read[0], read[1]][:, None]
            if isinstance(output, tuple):
                return (hidden, *output[1:])
            output.last_hidden_state = hidden
            return output

        handle = self.body.register_forward_hook(select)
        try:
            out = _first(self.model(**kwargs))
        finally:
            handle.remove()
        return out[:, 0] if fired else out[read[0], read[1]]

    def _head(self, hidden: Float[Tensor, "*b hidden"]) -> Float[Tensor, "*b out"]:
        return hidden if self._pooled is None else self._pooled(hidden)

    def whole(self, ids: Int[Tensor, "m k"]) -> Float[Tensor, "m k out"]:
        """The model's own answer at every position of `ids`, without our cache."""
        with self._lock:  # another thread's pass hooks into the model while it lasts
            if self._pooled is None:
                return _first(self.model(input_ids=ids, use_cache=False))
            return self._head(_first(self.body(input_ids=ids, use_cache=False)))

    def _additive(self, plan: Plan, ids: Tensor) -> Float[Tensor, "m 1 k T"]:
        dtype = next(p.dtype for p in self.model.parameters() if p.is_floating_point())
        mask = torch.zeros((*ids.shape, plan.total), dtype=dtype, device=ids.device)[:, None]
        if plan.suffix_mask is not None:
            mask.masked_fill_(~plan.suffix_mask, torch.finfo(dtype).min)
        return mask


def _first(output: Any) -> Tensor:
    return output[0]
