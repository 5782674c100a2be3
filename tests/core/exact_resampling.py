"""The law of every resampling scheme at small n, by enumeration: what the samplers are tested against."""

import itertools
from collections import defaultdict
from functools import cache

import numpy as np


def law(name, nw):
    """Probability of each vector of ancestors; `nw` sums to n."""
    nw = np.asarray(nw, np.float64)
    found = defaultdict(float)
    for ancestors, p in {
        "multinomial": multinomial,
        "systematic": systematic,
        "stratified": stratified,
        "residual": residual,
        "ssp": ssp,
        "killing": killing,
    }[name](nw):
        if p > 0:
            found[tuple(int(a) for a in ancestors)] += p
    return found


def turned(name, nw):
    """The same, particles turned before the draw and ancestors after it."""
    n, found = len(nw), defaultdict(float)
    for s in range(n):
        for ancestors, p in law(name, np.roll(nw, s)).items():
            back = (np.array(ancestors) - s) % n
            for j in range(n):
                found[tuple(np.roll(back, -j).tolist())] += p / n**2
    return found


def conditional(name, nw, pinned):
    """The turned law given that slot 0 got `pinned`."""
    kept = {a: p for a, p in turned(name, nw).items() if a[0] == pinned}
    total = sum(kept.values())
    assert np.isclose(total, nw[pinned] / len(nw)), "slot 0 has marginal law W"
    return {a: p / total for a, p in kept.items()}


def independent(laws):
    for ancestors in itertools.product(*(range(len(p)) for p in laws)):
        yield ancestors, np.prod([p[a] for p, a in zip(laws, ancestors, strict=True)])


def overlaps(nw, low, high):
    """Length that each particle's interval shares with (low, high)."""
    edge = np.concatenate([[0], np.cumsum(nw)])
    return np.clip(np.minimum(edge[1:], high) - np.maximum(edge[:-1], low), 0, None)


def multinomial(nw):
    yield from independent([nw / len(nw)] * len(nw))


def stratified(nw):
    yield from independent([overlaps(nw, k, k + 1) for k in range(len(nw))])


def systematic(nw):
    breaks = np.unique(np.concatenate([[0, 1], np.cumsum(nw) % 1]))
    for low, high in itertools.pairwise(breaks):
        teeth = np.arange(len(nw)) + (low + high) / 2
        yield np.searchsorted(np.cumsum(nw), teeth), high - low


def residual(nw):
    certain = np.floor(nw + 1e-12)
    left = len(nw) - int(certain.sum())
    rest = nw - certain
    for drawn, p in independent([rest / max(left, 1)] * left):
        counts = certain + np.bincount(np.array(drawn, int), minlength=len(nw))
        yield np.repeat(np.arange(len(nw)), counts.astype(int)), p


def killing(nw):
    survives = nw / nw.max()
    eye = np.eye(len(nw))
    yield from independent(
        [s * e + (1 - s) * nw / len(nw) for s, e in zip(survives, eye, strict=True)]
    )


def ssp(nw):
    """All ends of the tournament in which neighbours play, and winners' neighbours after them."""
    certain = np.floor(nw + 1e-12)
    size = 2 ** (len(nw) - 1).bit_length()
    players = [(i, f) for i, f in enumerate(np.pad(nw - certain, (0, size - len(nw))))]

    def play(players, extra, p):
        if p == 0:
            return
        if len(players) == 1:
            (i, f) = players[0]
            yield extra + [i] * round(f), p
            return
        rounds = [[]]
        for (i, a), (j, b) in zip(players[::2], players[1::2], strict=True):
            total = a + b
            if total <= 1 + 1e-12:  # one takes the sum
                first = a / total if total > 0 else 1.0
                outcomes = [((i, total), None, first), ((j, total), None, 1 - first)]
            else:  # one has its copy
                first = (1 - b) / (2 - total)
                outcomes = [((j, total - 1), i, first), ((i, total - 1), j, 1 - first)]
            rounds = [[*r, o] for r in rounds for o in outcomes]
        for r in rounds:
            copies = [c for _, c, _ in r if c is not None]
            yield from play([o for o, _, _ in r], extra + copies, p * np.prod([q for *_, q in r]))

    for extra, p in play(players, [], 1.0):
        counts = certain + np.bincount(np.array(extra, int), minlength=len(nw))[: len(nw)]
        yield np.repeat(np.arange(len(nw)), counts.astype(int)), p


# ---- what conditional laws are for: one sweep of conditional SMC on a chain of two times ----------------------

START, MOVE = np.array([0.6, 0.4]), np.array([[0.8, 0.2], [0.3, 0.7]])
POTENTIAL = np.array([[1.0, 0.2], [0.3, 1.0]])


def posterior():
    """pi(x_0, x_1)."""
    joint = np.einsum("a,ab->ab", START * POTENTIAL[0], MOVE * POTENTIAL[1])
    return joint / joint.sum()


def after_a_sweep(given_first, n):
    """Law of (x_0, x_1) after one sweep begun in `posterior()`, the reference in slot 0.

    `given_first(nw)` is the law of the ancestors, the first of which must be 0.
    """
    given_first = cache(given_first)
    out = np.zeros((2, 2))
    for (a, b), p in np.ndenumerate(posterior()):
        for others in itertools.product(range(2), repeat=n - 1):
            x0 = np.array([a, *others])
            w = POTENTIAL[0][x0]
            for ancestors, q in given_first(tuple((n * w / w.sum()).tolist())).items():
                past = x0[list(ancestors)]
                for moved in itertools.product(range(2), repeat=n - 1):
                    x1 = np.array([b, *moved])
                    r = p * np.prod(START[list(others)]) * q * np.prod(MOVE[past[1:], x1[1:]])
                    np.add.at(out, (past, x1), r * POTENTIAL[1][x1] / POTENTIAL[1][x1].sum())
    return out
