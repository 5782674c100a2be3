"""Which rows move where, as pure index arithmetic."""

import numpy as np
from jaxtyping import Bool, Int


def front_moves(
    place: Int[np.ndarray, " m"], owner: Int[np.ndarray, " rows"]
) -> tuple[Int[np.ndarray, " c"], Int[np.ndarray, " c"]]:
    """Rows to copy, simultaneously, so that the rows `place` come to be the first m.

    Args:
        place: the physical rows wanted at the front, all different.
        owner: who owns each physical row; -1 for nobody, whose row need not be saved.

    Returns:
        `(into, of)`: row `into[j]` becomes what row `of[j]` was. Wanted rows that are at the front
        already do not move; whoever stands where another must go changes places with it.
    """
    m = len(place)
    outside = place[place >= m]
    wanted = np.zeros(len(owner), dtype=bool)
    wanted[place] = True
    holes = np.flatnonzero(~wanted[:m])
    occupied = owner[holes] >= 0
    return (
        np.concatenate([holes, outside[occupied]]),
        np.concatenate([outside, holes[occupied]]),
    )


def take_moves(
    ancestors: Int[np.ndarray, " rows"], holds: Bool[np.ndarray, " rows"]
) -> tuple[Int[np.ndarray, " kept"], Int[np.ndarray, " copied"]]:
    """Children that keep their ancestor's row, and children that need a copy of it.

    Each ancestor with a child gives its row to exactly one: to itself if it survives. `holds` says
    whose ancestor has a row at all.
    """
    children = np.flatnonzero(holds)
    parents = ancestors[children]
    order = np.lexsort((parents != children, parents))
    children, parents = children[order], parents[order]
    first = np.ones(len(children), dtype=bool)
    first[1:] = parents[1:] != parents[:-1]
    return children[first], np.sort(children[~first])


def landing(own: Int[np.ndarray, " c"], free: Bool[np.ndarray, " rows"]) -> Int[np.ndarray, " c"]:
    """Free rows to write `c` children to: a child's `own` row (-1: none) if it is free, else any.

    What a row held last is of its particle's problem, so it often shares a start with what comes.
    """
    mine = (own >= 0) & free[own]
    spare = free.copy()
    spare[own[mine]] = False
    into = np.where(mine, own, -1)
    into[~mine] = np.flatnonzero(spare)[: int((~mine).sum())]
    return into
