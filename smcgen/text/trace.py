"""A run made readable: which steps were killed and which multiplied."""

from typing import TYPE_CHECKING

import numpy as np

from smcgen.text.detokenize import decode

if TYPE_CHECKING:
    from smcgen.text.result import SteerResult


def trace(result: "SteerResult", limit: int = 6) -> str:
    """Per step: the distinct steps written, how many particles wrote them, their score, their children.

    A line reads `written by 3, score 0.91, children 7 | 33+19=52`. Particles that had already ended are
    left out.
    """
    run, tokenizer, n = result.smc, result.population.tokenizer, len(result.texts)
    lines = [f"prompt: {result.prompt.text.strip()!r}"]
    ended = np.zeros(n, bool)
    for t in range(1, run.num_steps + 1):
        if run.resampled[t - 1]:
            ended = ended[np.asarray(run.ancestors[t - 1])]
        if ended.all():  # other prompts of the batch went on
            break
        record = result.history[t]
        children = np.ones(n, int)
        resampled = t < run.num_steps and bool(run.resampled[t])
        if resampled:
            children = np.bincount(np.asarray(run.ancestors[t]), minlength=n)
        note = f"ESS {float(run.ess[t]):.1f} of {n}" + (", resampled" if resampled else "")
        lines.append(f"step {t}  ({note})")
        groups: dict[tuple[str, str], list[int]] = {}
        for i in np.flatnonzero(~ended).tolist():
            ids = record.tokens[i][record.tokens[i] >= 0]
            score = "" if np.isnan(record.score[i]) else f"{record.score[i]:.3f}"
            groups.setdefault((decode(tokenizer, ids.tolist()).rstrip("\n"), score), []).append(i)
        # those with most children first: what lives on must be seen, however short the list
        ranked = sorted(groups.items(), key=lambda g: (-children[g[1]].sum(), -len(g[1])))
        for (text, score), members in ranked[:limit]:
            born = int(children[members].sum())
            fate = f"children {born}" if resampled else "kept"
            fate = "killed" if resampled and born == 0 else fate
            lines.append(f"  by {len(members):3d}  score {score or '-':>6}  {fate:<12} | {text}")
        if len(ranked) > limit:
            rest = sum(len(members) for _, members in ranked[limit:])
            lines.append(f"  ... and {rest} particles with {len(ranked) - limit} other steps")
        ended = ended | (np.asarray(record.finish) != 0)
    lines.append(f"answers: {result.answers()}")
    return "\n".join(lines)
