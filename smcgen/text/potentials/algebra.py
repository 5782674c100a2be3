"""`*`, `**` and `where`: potentials made of potentials."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument
from smcgen.text.factors.base import FactorSession, Setting, TokenFactor
from smcgen.text.potentials.base import Potential, Twist, TwistSession
from smcgen.text.prompts import Prompt
from smcgen.text.texts import Texts

_ALLOWED = "a potential, a reward, a function of a list of texts, or a reward model's name or path"


def as_potential(value: Any) -> Potential:
    """A potential as it is; a function on texts as a reward; a name or path as a process reward."""
    if isinstance(value, Potential):
        return value
    if isinstance(value, str) or hasattr(value, "__fspath__"):
        from smcgen.text.rewards import ProcessReward

        return ProcessReward(value)
    if callable(value) and not hasattr(value, "forward"):
        from smcgen.text.rewards import FunctionReward

        return FunctionReward(value)
    raise InvalidArgument("reward", value, _ALLOWED)


@dataclass(frozen=True)
class Product(Potential):
    """psi(x) = prod_k psi_k(x)."""

    parts: tuple[Potential, ...]

    def factors(self) -> tuple[TokenFactor, ...]:
        return tuple(f for part in self.parts for f in part.factors())

    def twists(self) -> tuple[Twist, ...]:
        return tuple(w for part in self.parts for w in part.twists())

    def power(self, strength: float) -> Potential:
        return Product(tuple(part.power(strength) for part in self.parts))


def where(
    condition: Callable[[str], bool],
    then: Any,
    otherwise: Any = None,
    *,
    on: Literal["prompt", "text"] = "prompt",
) -> Potential:
    """`then` where the condition holds, `otherwise` (default: 1) where it does not.

    Args:
        condition: called with the prompt's text, or with `on="text"` with the completion so far.
        then, otherwise: potentials (or what `as_potential` takes).
        on: what the condition is asked about. Token factors can only depend on the prompt.
    """
    if not callable(condition):
        raise InvalidArgument("condition", condition, "a function of a text")
    if on not in ("prompt", "text"):
        raise InvalidArgument("on", on, "'prompt' or 'text'")
    yes = _gated(as_potential(then), Condition(condition, on, True))
    if otherwise is None:
        return yes
    return Product((yes, _gated(as_potential(otherwise), Condition(condition, on, False))))


@dataclass(frozen=True)
class Condition:
    """Whether a row's prompt (or text) makes `test` come out as `wanted`."""

    test: Callable[[str], bool]
    on: Literal["prompt", "text"]
    wanted: bool

    def of_prompts(self, prompts: Sequence[Prompt], n: int) -> Bool[np.ndarray, " rows"]:
        """For all rows of a population."""
        holds = [bool(self.test(p.text)) == self.wanted for p in prompts]
        return np.repeat(np.array(holds), n)

    def of_texts(self, texts: Texts, rows: Int[np.ndarray, " m"]) -> Bool[np.ndarray, " m"]:
        """For some rows, on their completions."""
        return np.array([bool(self.test(texts.text(r))) == self.wanted for r in rows], bool)


def _gated(potential: Potential, condition: Condition) -> Potential:
    factors, twists = potential.factors(), potential.twists()
    if factors and condition.on == "text":
        raise InvalidArgument("on", "text", "'prompt' for token factors (constraints, experts)")
    gated = (
        *(GatedFactor(f, condition) for f in factors),
        *(GatedTwist(w, condition) for w in twists),
    )
    return Product(gated)


@dataclass(frozen=True)
class GatedTwist(Twist):
    """A twist on the rows where a condition holds, 1 on the others."""

    twist: Twist
    condition: Condition

    def power(self, strength: float) -> Potential:
        return _gated(self.twist.power(strength), self.condition)

    def open_twist(
        self, prompts: Sequence[Prompt], n: int, tokenizer: Any, meter: Meter
    ) -> TwistSession:
        inner = self.twist.open_twist(prompts, n, tokenizer, meter)
        fixed = self.condition.of_prompts(prompts, n) if self.condition.on == "prompt" else None
        return _GatedTwistSession(inner, self.condition, fixed)


@dataclass
class _GatedTwistSession:
    inner: TwistSession
    condition: Condition
    fixed: np.ndarray | None

    def log_psi(self, texts: Texts, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        on = self.condition.of_texts(texts, rows) if self.fixed is None else self.fixed[rows]
        values = np.zeros(len(rows))
        if on.any():
            values[on] = self.inner.log_psi(texts, rows[on])
        return values

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        self.inner.take(ancestors)

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        self.inner.drop(rows)

    def scores(self) -> Float64[np.ndarray, " rows"] | None:
        return self.inner.scores()

    def dump(self) -> Mapping[str, np.ndarray]:
        return self.inner.dump()

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        self.inner.load(arrays)

    def close(self) -> None:
        self.inner.close()


@dataclass(frozen=True)
class GatedFactor(TokenFactor):
    """A token factor on the problems where a condition holds, 1 on the others."""

    factor: TokenFactor
    condition: Condition

    def power(self, strength: float) -> Potential:
        return _gated(self.factor.power(strength), self.condition)

    def factors(self) -> tuple[TokenFactor, ...]:
        return (self,)

    def open_factor(self, setting: Setting) -> FactorSession:
        inner = self.factor.open_factor(setting)
        on = self.condition.of_prompts(setting.prompts, setting.n)
        return _GatedFactorSession(inner, on, setting.vocab_size, setting.device)


@dataclass
class _GatedFactorSession:
    inner: FactorSession
    on: np.ndarray
    vocab_size: int
    device: Any

    def log_phi(self, rows: Int[np.ndarray, " m"]) -> Any:
        import torch

        values = torch.zeros(len(rows), self.vocab_size, device=self.device)
        on = self.on[rows]
        if on.any():
            values[torch.from_numpy(np.flatnonzero(on))] = self.inner.log_phi(rows[on])
        return values

    def push(self, rows: Int[np.ndarray, " m"], tokens: Int[np.ndarray, " m"]) -> None:
        on = self.on[rows]
        if on.any():
            self.inner.push(rows[on], tokens[on])

    def log_cut(self, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        on, values = self.on[rows], np.zeros(len(rows))
        if on.any():
            values[on] = self.inner.log_cut(rows[on])
        return values

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        self.inner.take(ancestors)

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        self.inner.drop(rows[self.on[rows]])

    def close(self) -> None:
        self.inner.close()
