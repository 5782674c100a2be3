"""Exchange of texts between chains of different reward strengths."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from smcgen.text.state import TextRecord, as_wide

Path = list[Any]


def exchanged(
    paths: Sequence[Path],
    strengths: Sequence[float],
    rewards: Float64[np.ndarray, "chains p"],
    first: int,
    uniforms: Float64[np.ndarray, "pairs p"],
) -> tuple[list[Path], Bool[np.ndarray, "pairs p"]]:
    """Paths after chains (first, first + 1), (first + 2, first + 3), ... were offered to swap theirs, and which did.

    Chain c has the law `pi_c(x) ∝ p(x) exp(l_c r(x))`. A swap of x and y between c and d is accepted with probability

        min(1, exp((l_c - l_d) (r(y) - r(x))))

    which leaves `prod_c pi_c(x_c)` invariant: p(x) p(y) is on both sides. A path is a list of records with a row for
    each prompt. Geyer (1991).
    """
    paths = list(paths)
    taken = np.zeros(uniforms.shape, bool)
    for pair, c in enumerate(range(first, len(paths) - 1, 2)):
        gain = (strengths[c] - strengths[c + 1]) * (rewards[c + 1] - rewards[c])
        taken[pair] = np.log(uniforms[pair]) < gain
        paths[c], paths[c + 1] = _swapped(paths[c], paths[c + 1], taken[pair])
    return paths, taken


def _swapped(one: Path, other: Path, rows: Bool[np.ndarray, " p"]) -> tuple[Path, Path]:
    """Two paths with these rows in each other's place; the shorter one stays as it ended."""
    last = lambda path, t: path[min(t, len(path) - 1)]
    times = range(max(len(one), len(other)))
    pairs = [_records(last(one, t), last(other, t), rows) for t in times]
    return [a for a, _ in pairs], [b for _, b in pairs]


def _records(a: TextRecord, b: TextRecord, rows: np.ndarray) -> tuple[TextRecord, TextRecord]:
    a, b = (
        r._replace(tokens=t) for r, t in zip((a, b), as_wide([a.tokens, b.tokens]), strict=True)
    )
    new = []
    for x, y in zip(a, b, strict=True):
        x, y = np.asarray(x), np.asarray(y)
        on = rows.reshape(-1, *(1,) * (x.ndim - 1))
        new.append((np.where(on, y, x), np.where(on, x, y)))
    return TextRecord(*(x for x, _ in new)), TextRecord(*(y for _, y in new))
