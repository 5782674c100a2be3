"""Reference paths of texts, and what is left of one behind other texts, by enumeration."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from smcgen import conditional_smc
from smcgen.text import TextModel
from smcgen.text.state import TextRecord
from smcgen.text.stops import as_stops
from smcgen.text.texts import Finish
from tests.laws import assert_law, assert_unbiased

Text = tuple[int, ...]
Steps = list[list[int]]


def steps_of(ids: Sequence[int], ends: Callable[[Sequence[int]], bool]) -> Steps:
    """A text in its steps."""
    steps: Steps = [[]]
    for i in ids:
        if steps[-1] and ends(steps[-1]):
            steps.append([])
        steps[-1].append(i)
    return steps


def flat(steps: Steps) -> list[int]:
    """The tokens of some steps."""
    return [i for step in steps for i in step]


def path_of(texts: Sequence[Text], ends: Callable, model: TextModel) -> list[TextRecord]:
    """A path of one text for each problem; zeros where nobody looks."""
    split, zeros = [steps_of(ids, ends) for ids in texts], np.zeros(len(texts))
    path = [TextRecord(np.full((len(texts), 0), -1), zeros, zeros, zeros.astype(np.int8), zeros)]
    for t in range(max(map(len, split))):
        tokens = np.full((len(texts), model.max_tokens), -1)
        finish = np.zeros(len(texts), np.int8)
        for b, steps in enumerate(split):
            if t < len(steps):
                tokens[b, : len(steps[t])] = steps[t]
            if t >= len(steps) - 1:
                finish[b] = finish_of(flat(steps), model)
        path.append(TextRecord(tokens, zeros, zeros, finish, zeros))
    return path


def finish_of(ids: list[int], model: TextModel) -> Finish:
    """Why a whole text ended."""
    if ids[-1] in model.engine.eos_ids:
        return Finish.EOS
    stops = as_stops(model.stop)
    stopped = bool(stops) and model.engine.tokenizer.decode(ids).endswith(stops)
    return Finish.STOP if stopped else Finish.LENGTH


def is_text(steps: Steps, ends: Callable, model: TextModel) -> bool:
    """Whether these are the steps of a text that the model can write to its end."""
    *before, last = steps
    eos, total = model.engine.eos_ids, sum(map(len, steps))
    going = all(ends(s) and s[-1] not in eos for s in before)
    if not going or sum(map(len, before)) >= model.max_tokens or total > model.max_tokens:
        return False
    at_last = len(steps) == model.num_steps and ends(last)
    return last[-1] in eos or total == model.max_tokens or at_last


def check_log_continue(
    model: TextModel,
    texts: Sequence[Text],
    ends: Callable,
    log_p: Callable[[int, Sequence[int]], float],
    log_psi: Callable[[Steps], float],
    n: int = 6,
    tolerance: float = 1e-4,
) -> int:
    """`log_continue` at each time of a population that is not resampled; how many texts went on.

    `log_p(problem, ids)` is log p phi of tokens behind the prompt, `log_psi(steps)` that of a whole text or a part.
    """
    import jax

    path = path_of(texts, ends, model)
    keys = jax.random.split(jax.random.key(2), len(texts))
    state, _ = model.init(keys, n)
    went_on = 0
    for t in range(1, len(path)):
        got = np.asarray(model.log_continue(t, state, path)).ravel()
        for row in range(len(state.texts)):
            left = steps_of(texts[row // n], ends)[t - 1 :]
            own = state.texts.steps(row)
            if state.texts.ended[row] or not left:
                ended = state.texts.ended[row] and state.texts.finish[row] != Finish.DEAD
                expected = 0.0 if ended and not left else -np.inf
            elif not is_text([*own, *left], ends, model):
                expected = -np.inf
            else:
                whole, part = flat([*own, *left]), flat(own)
                expected = log_p(row // n, whole) - log_p(row // n, part)
                expected += log_psi([*own, *left]) - (log_psi(own) if own else 0.0)
                went_on += 1
            np.testing.assert_allclose(got[row], expected, atol=tolerance)
        state, _ = model.step(jax.vmap(jax.random.fold_in, (0, None))(keys, t), t, state)
    model.close(state)
    return went_on


def assert_invariant(
    model: TextModel, law: dict[Text, float], ends: Callable, sweeps: int, **options: Any
) -> Any:
    """Sweeps of two particles from exact draws of a law (of weights) leave it as it is; the last run."""
    texts, runs = list(law), len(model.prompts)
    p = np.array(list(law.values())) / sum(law.values())
    drawn = np.random.default_rng(1).choice(len(texts), runs, p=p)
    path: Any = path_of([texts[i] for i in drawn], ends, model)
    run, new = None, []
    for seed in range(sweeps):
        run = conditional_smc(model, seed, path, 2, **options)
        picked = run.sample(100 + seed)[:, 0]
        path = run.path(picked)
        new = [tuple(run.particles.tokens(r)) for r in 2 * np.arange(runs) + np.asarray(picked)]
    index = {ids: i for i, ids in enumerate(texts)}
    counts = np.bincount([index[ids] for ids in new], minlength=len(texts))
    assert_law(counts, p, "texts after the sweeps")
    # what a chi-square over many texts is too weak for: how likely and how long they are
    for what, values in {"log p": np.log(p), "length": np.array([*map(len, texts)])}.items():
        found = np.array([values[index[ids]] for ids in new], float)
        assert_unbiased(found, float(p @ values), what)
    assert np.mean([ids != texts[i] for ids, i in zip(new, drawn, strict=True)]) > 0.1
    return run
