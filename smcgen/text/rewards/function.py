"""Any Python function of a text as a reward: a verifier, a heuristic, a model of one's own.

The function sees a whole batch at a time, and each text once.
"""

import reprlib
import sys
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument, RewardError
from smcgen.text.prompts import Prompt
from smcgen.text.rewards._cache import ByContent
from smcgen.text.rewards.base import Reward
from smcgen.text.texts import Row, Texts

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100


@dataclass(frozen=True)
class FunctionReward(Reward):
    """A reward from a Python callable on a batch of texts.

    Called once per step with the completions that are new, it returns one number for each: a list,
    or a NumPy, torch or JAX array of shape (len(texts),). -inf forbids a text (on the log scale);
    NaN and +inf stop the run with the step and the particle.

    Args:
        fn: `fn(texts)`, or `fn(prompts, texts)` if `prompts`.
        on: what a text is: "text", a string without special tokens; "ids", a list of token ids; or
            "texts" for `fn(texts, rows)` with the `Texts` of the whole population and the rows to
            score, for functions of the step boundaries (never cached).
        probability: the numbers are probabilities in [0, 1]; `Tilt` checks it.
        prompts: pass the prompts as well, as strings (or ids if `on="ids"`).
        cache: how many scores to remember by content; 0 to remember none between steps.
        elsewhere: the function waits for somebody else (a service, another device), and may be called from another
            thread while an engine writes: see `Reward.elsewhere`.

    Raises:
        RewardError: in a run, if the function does not return numbers, or fails on a text: it is then
            called again, once for each text of the batch, to find the one it fails on.
    """

    fn: Callable[..., Any]
    on: Literal["text", "ids", "texts"] = "text"
    probability: bool = False
    prompts: bool = False
    cache: int = field(default=100_000, kw_only=True)
    elsewhere: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        if not callable(self.fn):
            raise InvalidArgument("fn", self.fn, "a function of a list of texts")
        if self.on not in ("text", "ids", "texts"):
            raise InvalidArgument("on", self.on, "'text', 'ids' or 'texts'")
        if self.prompts and self.on == "texts":
            raise InvalidArgument("prompts", True, "False with on='texts': `Texts` has the prompts")
        if self.cache < 0:
            raise InvalidArgument("cache", self.cache, "an integer >= 0")

    @property
    def display_name(self) -> str:
        """The function's name."""
        return getattr(self.fn, "__qualname__", type(self.fn).__name__)

    def open_reward(
        self, prompts: Sequence[Prompt], n: int, tokenizer: Any, meter: Meter
    ) -> "_FunctionSession":
        return _FunctionSession(self, meter)


class _FunctionSession(ByContent):
    """The function with its cache."""

    def __init__(self, part: FunctionReward, meter: Meter):
        self._part, self._meter = part, meter
        super().__init__(part.cache)
        self._name = part.display_name

    def score(self, texts: Texts, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        if self._part.on == "texts":
            return self._call_on_texts(texts, rows)
        items = [self._item(texts, row) for row in rows.tolist()]

        def fresh(positions: list[int]) -> np.ndarray:
            return self._call([items[k] for k in positions], texts, rows[positions])

        return self._cache.scores([key for _, _, key in items], fresh)

    def _item(self, texts: Texts, row: Row) -> tuple[Any, Any, Hashable]:
        """(prompt, completion, key); without prompts, the function knows completions alone."""
        prompt = texts.prompt(row)
        if self._part.on == "ids":
            ids = texts.tokens(row)
            return list(prompt.ids), ids, (prompt.ids if self._part.prompts else None, tuple(ids))
        text = texts.text(row)
        return prompt.text, text, (prompt.text if self._part.prompts else None, text)

    def _call_on_texts(self, texts: Texts, rows: np.ndarray) -> Float64[np.ndarray, " m"]:
        try:
            returned = self._part.fn(texts, rows)
        except Exception as error:
            raise RewardError(
                f"reward {self._name!r} failed on {len(rows)} texts: "
                f"{type(error).__name__}: {error}"
            ) from error
        self._meter.add(reward_calls=len(rows))
        return self._numbers(returned, len(rows))

    def _call(
        self, items: list[tuple[Any, Any, Hashable]], texts: Texts, rows: np.ndarray
    ) -> Float64[np.ndarray, " m"]:
        try:
            returned = self._apply(items)
        except Exception as error:
            raise self._culprit(items, texts, rows, error) from error
        self._meter.add(reward_calls=len(items))
        return self._numbers(returned, len(items))

    def _apply(self, items: list[tuple[Any, Any, Hashable]]) -> Any:
        completions = [completion for _, completion, _ in items]
        if self._part.prompts:
            return self._part.fn([prompt for prompt, _, _ in items], completions)
        return self._part.fn(completions)

    def _culprit(
        self, items: list[Any], texts: Texts, rows: np.ndarray, error: Exception
    ) -> RewardError:
        """Which text the function fails on, found by asking about one at a time."""
        for item, row in zip(items, rows.tolist(), strict=True):
            try:
                if len(items) == 1:  # known already, and a second call may be dear
                    raise error
                self._apply([item])
            except Exception as alone:
                problem, particle = divmod(row, texts.n)
                return RewardError(
                    f"reward {self._name!r} failed on particle {particle} of problem {problem}: "
                    f"{type(alone).__name__}: {alone} (prompt {_SHORT.repr(item[0])}, "
                    f"text {_SHORT.repr(item[1])})"
                )
        return RewardError(
            f"reward {self._name!r} failed on a batch of {len(items)} texts, though on none of "
            f"them alone: {type(error).__name__}: {error}"
        )

    def _numbers(self, returned: Any, m: int) -> Float64[np.ndarray, " m"]:
        expected = f"expected {m} numbers, one per text"
        try:
            scores = _as_array(returned)
        except Exception as error:
            what = f"{type(returned).__name__} {_SHORT.repr(returned)}"
            raise RewardError(f"reward {self._name!r} returned {what}: {expected}") from error
        if scores.shape != (m,):
            raise RewardError(
                f"reward {self._name!r} returned shape {scores.shape}: {expected}, shape ({m},)"
            )
        return scores


def _as_array(returned: Any) -> Float64[np.ndarray, "..."]:
    """Numbers as float64. Strings are not numbers, even if they look like one."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(returned, torch.Tensor):
        return returned.detach().double().cpu().numpy()
    if isinstance(returned, list | tuple):
        return np.stack([_as_array(x) for x in returned]) if returned else np.zeros(0)
    array = np.asarray(returned)
    if array.dtype.kind in "OUSMmc" or isinstance(returned, set | dict):
        raise TypeError("not numbers")
    return array.astype(np.float64)
