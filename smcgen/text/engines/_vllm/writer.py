"""A population that writes, as the core sees it."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float64, Int

from smcgen.text.engines.base import Law


class Writer(Protocol):
    """What the core needs of a population.

    Attributes:
        requests: name of each row's request in the engine, None if it has none.
        parents: the request whose copy a row will be, or None. If the row has a request, that was somebody else's
            and is to be rewritten.
    """

    law: Law
    requests: list[str | None]
    parents: list[str | None]

    @property
    def factors(self) -> Sequence[Any]:
        """Open token factors."""
        ...

    @property
    def active(self) -> Sequence[int]:
        """Rows that write now; those that wait for others of their population are not among them."""
        ...

    @property
    def busy(self) -> bool:
        """Whether some row has not ended its step."""
        ...

    @property
    def scores(self) -> Callable[[int], int] | None:
        """For a population whose texts are scored, not written: where a row's scored tokens begin."""
        ...

    def scored(self, row: int, logs: Float64[np.ndarray, " tokens"]) -> None:
        """Log-probabilities of the last tokens of a row's text; right, and there, from where `scores` says."""
        ...

    def text(self, row: int) -> list[int]:
        """Token ids of a row's prompt and all it has written."""
        ...

    def uniforms(self, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"] | None:
        """For the next token of each row; None if all are given."""
        ...

    def given(self, rows: Int[np.ndarray, " m"]) -> Int[np.ndarray, " m"] | None:
        """The next token of each row, -1 where it is drawn; None if all are."""
        ...

    def put(self, rows: Int[np.ndarray, " m"], drawn: Float64[np.ndarray, "4 m"]) -> None:
        """Token, log base, factor and proposal of each row; they count once `advance` is called."""
        ...

    def advance(self, rows: Int[np.ndarray, " m"]) -> tuple[Iterable[int], Iterable[int]]:
        """Rows that got their token: which rows pause now, and which paused rows go on."""
        ...

    def read(self, tokens: int) -> None:
        """Count tokens that were computed again or for the first time, not written."""
        ...
