"""Conditional SMC on texts: one text of each problem repeats a reference, and others go on as it does.

Where a step ends depends on its own tokens and on the limit of tokens, on nothing before it. So what is left of a
reference, its tokens u of steps t..T, can follow another text x, as long as the limit allows; and

    prod_{s=t..T} M_s G_s  =  p(u | x) phi(u | x) psi_T(x u) / psi_{t-1}(x)

is what ancestor sampling weighs x by (Lindsten, Jordan and Schön 2014, equation 8): one pass of the model over u behind
every text, and the rewards of texts that are nobody's yet.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from jaxtyping import Bool, Float64, Int

from smcgen.errors import InvalidArgument, RewardError
from smcgen.text.engines._stop import Stop
from smcgen.text.state import TextRecord, TextState
from smcgen.text.steps import Step
from smcgen.text.stops import StopStrings
from smcgen.text.texts import Finish, Texts

if TYPE_CHECKING:
    from smcgen.text.model import TextModel


class Written(NamedTuple):
    """A step of a reference: its tokens, and why the text ended with it, if it did."""

    tokens: list[int]
    finish: int


def check_step(step: Step) -> None:
    """Raise if where a step ends is not the text's own business."""
    if step.ess is not None:
        allowed = (
            "None with a reference: where its steps end would depend on the other texts; "
            "steps of one token and ess_threshold resample as seldom"
        )
        raise InvalidArgument("ess", step.ess, allowed)


def steps_of(record: TextRecord, problems: int) -> list[Written]:
    """A record of one particle, by problem."""
    tokens = np.asarray(record.tokens).reshape(problems, -1)
    finish = np.asarray(record.finish).reshape(problems)
    return [Written(row[row >= 0].tolist(), int(f)) for row, f in zip(tokens, finish, strict=True)]


def ids_of(path: Sequence[TextRecord], problems: int) -> list[list[int]]:
    """Token ids of a path's text, by problem."""
    by_time = [steps_of(record, problems) for record in path]
    return [[i for at in by_time for i in at[b].tokens] for b in range(problems)]


def tokens_of(
    model: "TextModel", state: TextState, reference: TextRecord
) -> Mapping[int, Sequence[int]]:
    """What the first row of each problem writes now; nothing if its text has ended, as the reference has."""
    firsts = range(0, len(state.texts), state.texts.n)
    steps = zip(firsts, steps_of(reference, len(model.prompts)), strict=True)
    given = {row: step.tokens for row, step in steps if not state.texts.ended[row]}
    if not all(given.values()):
        raise InvalidArgument("reference", "no tokens", "the next step of a text that goes on")
    return given


def check(
    state: TextState,
    reference: TextRecord,
    rows: Sequence[int],
    log_g: Float64[np.ndarray, " rows"],
) -> None:
    """Raise if the rows that repeat the reference did not end like it, or have no weight."""
    written = steps_of(reference, len(state.texts.prompts))
    for row in rows:
        tokens, finish = written[row // state.texts.n]
        if not np.isfinite(log_g[row]):
            got = f"tokens {tokens[:20]} of log weight {log_g[row]}"
            raise InvalidArgument("reference", got, "a text of positive probability and potential")
        if state.texts.finish[row] != finish:
            names = Finish(finish).name, Finish(int(state.texts.finish[row])).name
            got = f"a step after which the text is {names[0]}, here {names[1]}"
            raise InvalidArgument("reference", got, "a text of this model, of the same limits")


def log_continue(
    model: "TextModel", t: int, state: TextState, path: Sequence[TextRecord]
) -> Float64[np.ndarray, " rows"]:
    """log of what is left of the path from step t on, behind each row's text."""
    texts, problems = state.texts, len(model.prompts)
    by_time = [steps_of(record, problems) for record in path[t:]]
    left = [_until_end([at[b] for at in by_time]) for b in range(problems)]
    total = np.full(len(texts), -np.inf)
    fits = ~texts.ended
    for b, steps in enumerate(left):
        rows = np.arange(b * texts.n, (b + 1) * texts.n)
        if steps:
            fits[rows] &= _fits(model, t, steps, model.limits(rows, texts.n) - texts.lengths[rows])
            if model.stops is not None:
                fits[rows] &= _stops_there(model.stops, steps, state.stop[rows])
        else:  # it had ended: nothing can follow, and only what has ended goes on like that
            fits[rows] = False
            total[rows[texts.ended[rows] & (texts.finish[rows] != Finish.DEAD)]] = 0.0
    rows = np.flatnonzero(fits)
    if not len(rows):
        return total
    firsts, copies = _distinct(texts, rows)
    own = [left[row // texts.n] for row in firsts.tolist()]
    tokens = [[i for step in steps for i in step.tokens] for steps in own]
    cut = np.array([steps[-1].finish in (Finish.LENGTH, Finish.STOP) for steps in own])
    total[rows] = state.engine.log_continue(firsts, tokens, cut)[copies]
    alive = rows[total[rows] > -np.inf]
    if len(alive) and state.twists:
        log_psi = _log_psi_end(model, state, alive, left)
        if np.isnan(log_psi).any() or (log_psi == np.inf).any():
            raise RewardError(
                "a reward gave NaN or +inf for a text that goes on like the reference"
            )
        total[alive] += log_psi - state.log_psi[alive]
    return total


def _distinct(
    texts: Texts, rows: Int[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, " k"], Int[np.ndarray, " m"]]:
    """The first row of each different text, and which of them each row has."""
    known: dict[tuple[int, ...], int] = {}
    first = [known.setdefault((row // texts.n, *texts.tokens(row)), row) for row in rows.tolist()]
    return np.unique(first, return_inverse=True)


def _until_end(steps: list[Written]) -> list[Written]:
    """The steps in which something is written."""
    left = [step for step in steps if step.tokens]
    if left and left[-1].finish == Finish.RUNNING:
        raise InvalidArgument("path", f"{len(steps)} steps", "a path whose text has ended")
    return left


def _fits(
    model: "TextModel", t: int, left: list[Written], room: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """Where the limit of tokens lets each step end as it did, if `room` tokens are allowed."""
    fits = np.ones(len(room), dtype=bool)
    for s, (tokens, finish) in enumerate(left, t):
        room = room - len(tokens)
        if finish == Finish.RUNNING:
            fits &= room > 0
        elif finish in (Finish.EOS, Finish.STOP):
            fits &= room >= 0
        else:  # cut off: by the limit of tokens, or at the end of the last step
            whole = s == model.num_steps and (room > 0).any() and _is_step(model, tokens)
            fits &= (room == 0) | ((room > 0) & whole)
    return fits


def _stops_there(
    strings: StopStrings, left: list[Written], states: Int[np.ndarray, " n"]
) -> Bool[np.ndarray, " n"]:
    """Where a string that ends a text is met at the end of these steps, if they ended so, and not before."""
    tokens, finish = [i for step in left for i in step.tokens], left[-1].finish
    fits = np.ones(len(states), dtype=bool)
    for j, token in enumerate(tokens):
        states = strings.step(states, np.full(len(states), token))
        if j + 1 < len(tokens) or finish != Finish.EOS:  # an end-of-text token comes first
            due = j + 1 == len(tokens) and finish == Finish.STOP
            fits &= (states == strings.found) == due
    return fits


def _is_step(model: "TextModel", tokens: list[int]) -> bool:
    """Whether a step ends with the last of these tokens by itself."""
    engine = model.engine
    stop, one = Stop(model.rule, engine.tokenizer, engine.vocab_size, 1), np.zeros(1, np.int64)
    return [bool(stop.push(one, np.array([i]))[0]) for i in tokens][-1]


def _log_psi_end(
    model: "TextModel", state: TextState, rows: Int[np.ndarray, " m"], left: list[list[Written]]
) -> Float64[np.ndarray, " m"]:
    """log psi_T of the rows' texts with what is left of the path behind them; the twists stay as they are."""
    assert model.potential is not None
    at_every_step = [w.every_step for w in model.potential.twists()]
    marks = [w.mark() for w in state.twists]
    joined = state.texts
    log_psi, lost = np.zeros((len(state.twists), len(joined))), np.zeros(len(joined), dtype=bool)
    try:
        for s in range(max(map(len, left))):
            these = rows[[len(left[b]) > s for b in (rows // joined.n).tolist()]]
            joined = _extended(joined, these, [left[b][s] for b in (these // joined.n).tolist()])
            for k, w in enumerate(state.twists):
                if at_every_step[k]:
                    log_psi[k, these] = w.log_psi(joined, these)
                    lost[these] |= log_psi[k, these] == -np.inf  # it would not have lived on
        for k, w in enumerate(state.twists):
            if not at_every_step[k]:
                log_psi[k, rows] = w.log_psi(joined, rows)
    finally:
        for w, mark in zip(state.twists, marks, strict=True):
            w.rewind(mark)
    return np.where(lost[rows], -np.inf, log_psi[:, rows].sum(0))


def _extended(texts: Texts, rows: Int[np.ndarray, " m"], steps: list[Written]) -> Texts:
    lengths = np.array([len(step.tokens) for step in steps])
    tokens = np.full((len(rows), int(lengths.max())), -1)
    for i, step in enumerate(steps):
        tokens[i, : lengths[i]] = step.tokens
    return texts.extended(rows, tokens, lengths, np.array([s.finish for s in steps], np.int8))
