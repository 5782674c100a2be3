"""Potentials under a condition: in force on some texts, 1 on the others.

A condition on the prompt is known before a run. What is gated is then opened for the problems that it concerns, as if
they were alone: the others cost it nothing. A condition on the text opens it when a text first meets it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int

from smcgen.core.cost import Meter
from smcgen.text.factors.base import FactorSession, Setting, TokenFactor
from smcgen.text.potentials.base import Potential, Twist, TwistSession
from smcgen.text.prompts import Prompt
from smcgen.text.texts import Texts


@dataclass(frozen=True)
class Condition:
    """Whether a row's prompt (or text) makes `test` come out as `wanted`."""

    test: Callable[[str], bool]
    on: Literal["prompt", "text"]
    wanted: bool

    def of_prompts(self, prompts: Sequence[Prompt]) -> Bool[np.ndarray, " problems"]:
        """For all problems of a population."""
        return np.array([bool(self.test(p.text)) == self.wanted for p in prompts], bool)

    def of_texts(self, texts: Texts, rows: Int[np.ndarray, " m"]) -> Bool[np.ndarray, " m"]:
        """For some rows, on their completions."""
        return np.array([bool(self.test(texts.text(r))) == self.wanted for r in rows], bool)


class Concerned:
    """The problems in which a potential is in force, and their rows, numbered as if they were alone."""

    def __init__(self, problems: Bool[np.ndarray, " problems"], n: int):
        self.problems = problems
        self.on = np.repeat(problems, n)
        self.rows = np.flatnonzero(self.on)
        self._number = np.cumsum(self.on) - 1

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """The prompts of these problems."""
        return [p for p, on in zip(prompts, self.problems, strict=True) if on]

    def number(self, rows: Int[np.ndarray, " m"]) -> Int[np.ndarray, " k"]:
        """Those of these rows that are concerned, by their number among the concerned."""
        return self._number[rows[self.on[rows]]]

    def ancestors(self, ancestors: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " k"]:
        """Ancestors of the concerned rows; a row's ancestor is of its own problem."""
        return self._number[ancestors[self.rows]]


@dataclass(frozen=True)
class GatedTwist(Twist):
    """A twist on the rows where a condition holds, 1 on the others."""

    twist: Twist
    condition: Condition

    @property
    def every_step(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the twist."""
        return self.twist.every_step

    @property
    def elsewhere(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """As the twist."""
        return self.twist.elsewhere

    def power(self, strength: float) -> Potential:
        from smcgen.text.potentials.algebra import gated

        return gated(self.twist.power(strength), self.condition)

    def open_twist(
        self, prompts: Sequence[Prompt], n: int, tokenizer: Any, meter: Meter
    ) -> TwistSession:
        if self.condition.on == "text":
            open_all = lambda: self.twist.open_twist(prompts, n, tokenizer, meter)
            return _TextGate(open_all, self.condition, len(prompts) * n)
        concerned = Concerned(self.condition.of_prompts(prompts), n)
        own = concerned.prompts(prompts)
        inner = self.twist.open_twist(own, n, tokenizer, meter) if own else None
        return _PromptGate(inner, concerned)


@dataclass
class _PromptGate:
    """A session for the concerned problems; None if there are none."""

    inner: TwistSession | None
    concerned: Concerned

    def log_psi(self, texts: Texts, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        values, own = np.zeros(len(rows)), self.concerned.number(rows)
        if self.inner and len(own):
            their = texts.of_problems(self.concerned.problems)
            values[self.concerned.on[rows]] = self.inner.log_psi(their, own)
        return values

    def mark(self) -> Any:
        return self.inner.mark() if self.inner else None

    def rewind(self, mark: Any) -> None:
        if self.inner:
            self.inner.rewind(mark)

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        if self.inner:
            self.inner.take(self.concerned.ancestors(ancestors))

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        if self.inner:
            self.inner.drop(self.concerned.number(rows))

    def scores(self) -> Float64[np.ndarray, " rows"] | None:
        all_scores = np.full(len(self.concerned.on), np.nan)
        if self.inner:
            own = self.inner.scores()
            if own is None:
                return None
            all_scores[self.concerned.rows] = own
        return all_scores

    def dump(self) -> Mapping[str, np.ndarray]:
        return self.inner.dump() if self.inner else {}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        if self.inner:
            self.inner.load(arrays)

    def close(self) -> None:
        if self.inner:
            self.inner.close()


@dataclass
class _TextGate:
    """A session for all rows, opened when the first of them meets the condition."""

    open: Callable[[], TwistSession]
    condition: Condition
    rows: int
    inner: TwistSession | None = None

    def log_psi(self, texts: Texts, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        on = self.condition.of_texts(texts, rows)
        values = np.zeros(len(rows))
        if on.any():
            if self.inner is None:
                self.inner = self.open()
                self.inner.drop(np.setdiff1d(np.flatnonzero(texts.ended), rows))
            values[on] = self.inner.log_psi(texts, rows[on])
        return values

    def mark(self) -> Any:
        return self.inner and self.inner.mark()

    def rewind(self, mark: Any) -> None:
        if self.inner and mark is None:  # no text had met the condition
            self.inner.close()
            self.inner = None
        elif self.inner:
            self.inner.rewind(mark)

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        if self.inner:
            self.inner.take(ancestors)

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        if self.inner:
            self.inner.drop(rows)

    def scores(self) -> Float64[np.ndarray, " rows"] | None:
        return self.inner.scores() if self.inner else np.full(self.rows, np.nan)

    def dump(self) -> Mapping[str, np.ndarray]:
        return self.inner.dump() if self.inner else {}

    def load(self, arrays: Mapping[str, np.ndarray]) -> None:
        if arrays:
            self.inner = self.open()
            self.inner.load(arrays)

    def close(self) -> None:
        if self.inner:
            self.inner.close()


@dataclass(frozen=True)
class GatedFactor(TokenFactor):
    """A token factor on the problems where a condition on the prompt holds, 1 on the others."""

    factor: TokenFactor
    condition: Condition

    def power(self, strength: float) -> Potential:
        from smcgen.text.potentials.algebra import gated

        return gated(self.factor.power(strength), self.condition)

    def open_factor(self, setting: Setting) -> FactorSession:
        concerned = Concerned(self.condition.of_prompts(setting.prompts), setting.n)
        prompts, completions = concerned.prompts(setting.prompts), setting.completions
        if completions is not None:
            completions = [completions[row] for row in concerned.rows]
        own = setting._replace(prompts=prompts, completions=completions)
        inner = self.factor.open_factor(own) if prompts else None
        return _FactorGate(inner, concerned, setting.vocab_size, setting.device)


@dataclass
class _FactorGate:
    """A session for the concerned problems; None if there are none."""

    inner: FactorSession | None
    concerned: Concerned
    vocab_size: int
    device: Any

    def log_phi(self, rows: Int[np.ndarray, " m"]) -> Any:
        import torch

        values = torch.zeros(len(rows), self.vocab_size, device=self.device)
        own = self.concerned.number(rows)
        if self.inner and len(own):
            on = torch.from_numpy(np.flatnonzero(self.concerned.on[rows]))
            values[on] = self.inner.log_phi(own)
        return values

    def push(self, rows: Int[np.ndarray, " m"], tokens: Int[np.ndarray, " m"]) -> None:
        own = self.concerned.number(rows)
        if self.inner and len(own):
            self.inner.push(own, tokens[self.concerned.on[rows]])

    def log_cut(self, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        values, own = np.zeros(len(rows)), self.concerned.number(rows)
        if self.inner and len(own):
            values[self.concerned.on[rows]] = self.inner.log_cut(own)
        return values

    def log_continue(
        self,
        rows: Int[np.ndarray, " m"],
        tokens: Sequence[Sequence[int]],
        cut: Bool[np.ndarray, " m"],
    ) -> Float64[np.ndarray, " m"]:
        values, on = np.zeros(len(rows)), self.concerned.on[rows]
        if self.inner and on.any():
            own = [tokens[i] for i in np.flatnonzero(on)]
            values[on] = self.inner.log_continue(self.concerned.number(rows), own, cut[on])
        return values

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        if self.inner:
            self.inner.take(self.concerned.ancestors(ancestors))

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        if self.inner:
            self.inner.drop(self.concerned.number(rows))

    def close(self) -> None:
        if self.inner:
            self.inner.close()
