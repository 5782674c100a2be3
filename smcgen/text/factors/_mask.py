"""Hard constraints on tokens: phi(x_<t, v) in {0, 1}, by an automaton that reads tokens.

A constraint differs from another only in its automaton; the population's bookkeeping is here. Rows
with equal histories share one automaton state, so `take` moves integers, a state is copied only
when two rows that share it part, and a mask is computed once per distinct state.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
from jaxtyping import Bool, Float64, Int

from smcgen.errors import InvalidArgument
from smcgen.text.factors.base import Setting, TokenFactor

if TYPE_CHECKING:
    import torch
    from jaxtyping import Float

Incomplete = Literal["zero", "allow"]
_DEAD = 0  # the state of a row whose text the constraint has already refused


class Automaton(Protocol):
    """A constraint as something that reads tokens. `None` stands for the state that refuses all."""

    def start(self, problem: int) -> Any:
        """State before the first token of a completion of this problem."""
        ...

    def advance(self, state: Any, token: int, reuse: bool) -> Any | None:
        """State after one more token; `reuse` says that `state` is needed no more."""
        ...

    def follow(self, state: Any, tokens: Sequence[int]) -> Any | None:
        """State after several tokens, None if one of them is not allowed; `state` stays as it is."""
        ...

    def allowed(self, states: list[Any]) -> "Bool[torch.Tensor, 'states vocab']":
        """Which tokens may come next."""
        ...

    def complete(self, state: Any) -> bool:
        """Whether the text could end here."""
        ...


class MaskFactor(TokenFactor):
    """Base class of hard constraints.

    Attributes:
        incomplete: weight of a text that is cut off before the constraint is met: "zero", or
            "allow" (every prefix of a valid text counts).
    """

    incomplete: Incomplete

    def power(self, strength: float) -> "MaskFactor":
        """The constraint itself: phi ** s = phi for phi in {0, 1} and s > 0."""
        if not strength > 0:
            raise InvalidArgument("strength", strength, "> 0: a constraint is 0 or 1, not a scale")
        return self

    def _check_incomplete(self) -> None:
        if self.incomplete not in get_args(Incomplete):
            raise InvalidArgument("incomplete", self.incomplete, "'zero' or 'allow'")


class MaskSession:
    """A hard constraint's state for one population; a `FactorSession`.

    Args:
        automaton: reads the tokens.
        setting: the population.
        incomplete: see `MaskFactor`.
    """

    def __init__(self, automaton: Automaton, setting: Setting, incomplete: Incomplete):
        self._automaton, self._device, self._incomplete = automaton, setting.device, incomplete
        self._states: dict[int, Any] = {_DEAD: None}
        self._next = 1
        first = [self._add(automaton.start(problem)) for problem in range(len(setting.prompts))]
        self._row = np.repeat(np.asarray(first, dtype=np.int64), setting.n)
        completions = setting.completions
        if completions is not None:
            # Position by position, so that rows with equal prefixes keep sharing a state.
            for j in range(max(map(len, completions), default=0)):
                rows = [i for i, ids in enumerate(completions) if len(ids) > j]
                self.push(np.asarray(rows), np.asarray([completions[i][j] for i in rows]))

    def log_phi(self, rows: Int[np.ndarray, " m"]) -> "Float[torch.Tensor, 'm vocab']":
        import torch

        from smcgen.text._torch.upload import upload

        states = self._row[rows]
        unique, inverse = np.unique(states, return_inverse=True)
        if len(unique) == len(states):  # each row its own: in their order, nothing is to be copied
            unique = states
        allowed = self._automaton.allowed([self._states[i] for i in unique.tolist()])
        allowed = upload(allowed, self._device)
        if unique is not states:
            allowed = allowed[upload(inverse, self._device)]
        return torch.where(allowed, 0.0, -torch.inf)

    def push(self, rows: Int[np.ndarray, " m"], tokens: Int[np.ndarray, " m"]) -> None:
        before = self._row[rows]
        low = int(tokens.min(initial=0))
        width = int(tokens.max(initial=0)) - low + 1
        # a number for each pair of a state and a token, in their order
        pairs, inverse = np.unique(before * width + (tokens - low), return_inverse=True)
        self._row[rows] = _DEAD
        held = set(self._row.tolist())  # states that other rows still stand at
        after = np.empty(len(pairs), dtype=np.int64)
        states, tokens_of = (pairs // width).tolist(), (pairs % width + low).tolist()
        for k, (state, token) in enumerate(zip(states, tokens_of, strict=True)):
            # Pairs are sorted by state: the last pair of a state that no other row holds owns it.
            last = k + 1 == len(states) or states[k + 1] != state
            after[k] = self._advance(state, token, last and state not in held)
        self._row[rows] = after[inverse]

    def log_cut(self, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        states = self._row[rows]
        if self._incomplete == "allow":
            return np.where(states == _DEAD, -np.inf, 0.0)
        complete = {
            i: i != _DEAD and self._automaton.complete(self._states[i])
            for i in np.unique(states).tolist()
        }
        return np.asarray([0.0 if complete[i] else -np.inf for i in states.tolist()])

    def log_continue(
        self,
        rows: Int[np.ndarray, " m"],
        tokens: Sequence[Sequence[int]],
        cut: Bool[np.ndarray, " m"],
    ) -> Float64[np.ndarray, " m"]:
        states = self._row[rows].tolist()
        asked = [(s, *ids, c) for s, ids, c in zip(states, tokens, cut.tolist(), strict=True)]
        known = {one: self._allows(self._states[one[0]], one[1:-1], one[-1]) for one in set(asked)}
        return np.array([0.0 if known[one] else -np.inf for one in asked])

    def _allows(self, state: Any, tokens: Sequence[int], cut: bool) -> bool:
        """Whether these tokens may follow, and the text may be cut off behind them if it is."""
        state = None if state is None else self._automaton.follow(state, tokens)
        if state is None or not cut or self._incomplete == "allow":
            return state is not None
        return self._automaton.complete(state)

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        self._row = self._row[ancestors]
        self._sweep()

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        self._row[rows] = _DEAD
        self._sweep()

    def close(self) -> None:
        self.drop(np.arange(len(self._row)))

    def _add(self, state: Any) -> int:
        if state is None:
            return _DEAD
        self._states[self._next] = state
        self._next += 1
        return self._next - 1

    def _advance(self, state: int, token: int, reuse: bool) -> int:
        if state == _DEAD:
            return _DEAD
        held = self._states.pop(state) if reuse else self._states[state]
        return self._add(self._automaton.advance(held, token, reuse))

    def _sweep(self) -> None:
        live = {_DEAD, *self._row.tolist()}
        self._states = {i: state for i, state in self._states.items() if i in live}
