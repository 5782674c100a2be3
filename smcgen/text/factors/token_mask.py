"""A constraint given by a Python function. Slow, and enough for tests and experiments."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from smcgen.errors import RewardError
from smcgen.text.factors._mask import Incomplete, MaskFactor, MaskSession
from smcgen.text.factors.base import Setting

if TYPE_CHECKING:
    import torch
    from jaxtyping import Bool


@dataclass(frozen=True)
class TokenMask(MaskFactor):
    """Tokens that a function allows: phi(x_<t, v) = [v in fn(x_<t)].

    The function runs in Python once per token with all distinct prefixes of the population; a
    grammar (`Regex`, `Grammar`) does the same work some hundred times faster.

    Args:
        fn: called with a list of completions so far (each a list of token ids); returns one item
            per completion: the allowed token ids, or a boolean mask of shape (vocab,). The
            end-of-text token must be among them where the text may end.
        prompts: call `fn(prompts, completions)` instead, with the prompts' token ids.
        incomplete: weight of a text that is cut off where the end-of-text token is not allowed.

    Raises:
        RewardError: in a run, if `fn` returns something else.
    """

    fn: Callable[..., Sequence[Any]]
    prompts: bool = False
    incomplete: Incomplete = field(default="allow", kw_only=True)

    def __post_init__(self) -> None:
        self._check_incomplete()

    def open_factor(self, setting: Setting) -> MaskSession:
        automaton = _FunctionAutomaton(self, setting)
        return MaskSession(automaton, setting, self.incomplete)


class _FunctionAutomaton:
    """The function as an automaton whose states are (problem, completion)."""

    def __init__(self, part: TokenMask, setting: Setting):
        self._part, self._vocab, self._eos = part, setting.vocab_size, sorted(setting.eos_ids)
        self._prompts = [list(p.ids) for p in setting.prompts]

    def start(self, problem: int) -> Any:
        return problem, ()

    def advance(self, state: Any, token: int, reuse: bool) -> Any:
        return state[0], (*state[1], token)

    def follow(self, state: Any, tokens: Sequence[int]) -> Any:
        problem, before = state
        each = [(problem, (*before, *tokens[:j])) for j in range(len(tokens))]
        may = self._call(each)[range(len(tokens)), tokens] if each else np.ones(0, bool)
        return (problem, (*before, *tokens)) if may.all() else None

    def allowed(self, states: list[Any]) -> "Bool[torch.Tensor, 'states vocab']":
        import torch

        live = [k for k, state in enumerate(states) if state is not None]
        out = np.zeros((len(states), self._vocab), dtype=bool)
        if live:
            out[live] = self._call([states[k] for k in live])
        return torch.from_numpy(out)

    def complete(self, state: Any) -> bool:
        ended = bool(state[1]) and state[1][-1] in self._eos
        return ended or bool(self._call([state])[0, self._eos].any())

    def _call(self, states: list[Any]) -> np.ndarray:
        completions = [list(ids) for _, ids in states]
        if self._part.prompts:
            returned = self._part.fn([self._prompts[p] for p, _ in states], completions)
        else:
            returned = self._part.fn(completions)
        if len(returned) != len(states):
            raise RewardError(f"TokenMask: {len(states)} completions gave {len(returned)} masks")
        return np.stack([self._row(mask) for mask in returned])

    def _row(self, mask: Any) -> np.ndarray:
        mask = np.asarray(mask if isinstance(mask, np.ndarray) else list(mask))
        if mask.dtype == bool and mask.shape == (self._vocab,):
            return mask
        ids = mask.astype(np.int64) if mask.size == 0 else mask
        outside = ids.dtype.kind not in "iu" or bool(((ids < 0) | (ids >= self._vocab)).any())
        if ids.ndim != 1 or outside:
            raise RewardError(
                f"TokenMask: got {mask!r}, expected token ids in [0, {self._vocab}) "
                f"or a boolean mask of shape ({self._vocab},)"
            )
        row = np.zeros(self._vocab, dtype=bool)
        row[ids] = True
        return row
