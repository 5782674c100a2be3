"""Which models can run on our cache, found out by trying.

Models differ in how they mask, scale and share attention, and new ones appear weekly; so a model is
asked for its kind of state, and then a few tokens are run both ways. The first way that agrees with
the model's own answer is used: prompts shared, with our attention; prompts copied into the rows, with
our attention; prompts copied, with the model's own attention.
"""

from typing import NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
import torch
from transformers import PreTrainedModel

from smcgen.errors import ModelError
from smcgen.text._torch.forward import embedding

_PLAIN = {"full_attention", "sliding_attention", "chunked_attention"}


class Support(NamedTuple):
    """How a model is run: prompts shared by rows, and whose attention."""

    share: bool
    own_attention: bool

    def __str__(self) -> str:
        prompts = "shared" if self.share else "copied"
        return f"prompts {prompts}, {'our' if self.own_attention else 'its own'} attention"


_WAYS = (Support(True, True), Support(False, True), Support(False, False))
_KNOWN: "WeakKeyDictionary[PreTrainedModel, dict[Support, str]]" = WeakKeyDictionary()


def support(model: PreTrainedModel, share: bool | None = None) -> Support:
    """The best way to run a model, with prompts shared or not as asked.

    Raises:
        ModelError: if no way gives what the model itself gives, with what went wrong in each.
    """
    failures = _KNOWN.get(model)
    if failures is None:
        _check_state(model)
        failures = _KNOWN.setdefault(model, {})
    model.eval()
    ways = [w for w in _WAYS if share is None or w.share == share]
    if _has_windows(model):  # a few tokens cannot tell whether a mask of ours respects them
        ways = [w for w in ways if w.own_attention]
    for way in ways:
        if way not in failures:
            failures[way] = _try(model, way)
        if not failures[way]:
            return way
    reasons = "; ".join(f"{w}: {failures[w]}" for w in ways)
    raise ModelError(f"{_name(model)} cannot run on the KV cache of a population. Tried {reasons}")


def _has_windows(model: PreTrainedModel) -> bool:
    config = model.config.get_text_config(decoder=True)
    kinds = getattr(config, "layer_types", None) or getattr(config, "attention_layers", None) or ()
    windows = ("sliding_window", "attention_window", "attention_chunk_size")
    return bool(set(kinds) - {"full_attention", "global"}) or any(
        getattr(config, name, None) for name in windows
    )


def _name(model: PreTrainedModel) -> str:
    path = getattr(model.config, "_name_or_path", "")
    return f"{type(model).__name__} ({path})" if path else type(model).__name__


def _check_state(model: PreTrainedModel) -> None:
    config = model.config.get_text_config(decoder=True)
    if model.config.is_encoder_decoder or getattr(config, "add_cross_attention", False):
        raise ModelError(
            f"{_name(model)} is an encoder-decoder model: a decoder-only model is needed"
        )
    kinds = set(getattr(config, "layer_types", None) or ()) - _PLAIN
    if model._is_stateful or kinds:
        what = f" (layers: {', '.join(sorted(kinds))})" if kinds else ""
        raise ModelError(
            f"{_name(model)} keeps a recurrent or compressed state{what}: "
            "only models whose cache is keys and values can fork particles"
        )


@torch.inference_mode()
def _try(model: PreTrainedModel, way: Support) -> str:
    """Run two short texts both ways; the empty string if the answers agree."""
    from smcgen.text._torch.population import Population

    try:
        vocab = embedding(model).shape[0]
        ids = (np.arange(2 * 7).reshape(2, 7) * 7 + 1) % vocab
        ids[1, 1] = ids[0, 0]
        texts = np.stack([ids[0], np.r_[ids[1, :1], ids[1, 3:5], ids[0, 4:6], 0, 0]])
        prompts = [texts[0, :3].tolist(), texts[1, :1].tolist()]
        population = Population(model, prompts, 2, _support=way)
        tokens = np.stack([texts[1, 1:3], texts[0, 3:5]])
        got = [population.feed(np.array([2, 0]), tokens, np.array([2, 1]))]
        population.take(np.array([0, 0, 2, 2]))
        tokens = np.stack([texts[0, 4:6], texts[1, 3:5]])
        got.append(population.feed(np.array([1, 3]), tokens))
        full = population.reference(texts)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    want = torch.stack([full[1, 2], full[0, 3], full[0, 5], full[1, 4]]).float()
    difference = torch.linalg.vector_norm(torch.cat(got).float() - want)
    relative = float(difference / torch.linalg.vector_norm(want))
    # half precision rounds differently in every order of summation, float32 hardly
    allowed = 1e-3 if full.dtype == torch.float32 else 0.1
    return "" if relative < allowed else f"outputs differ by {relative:.1e} of their norm"
