"""What ancestor sampling costs on texts: a continuation scored behind every text, and sweeps against filters.

`python benchmarks/ancestor_sampling.py` (half a minute; vLLM is measured if it is installed). The model is that of
`vllm_steering.py`; texts have a prompt of 70 tokens and six steps of 20. After three steps, what is left of a
reference, 60 tokens, is scored behind 64 different texts.
"""

import argparse
import importlib.util
import os
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # vLLM binds its threads when it starts

import jax
import numpy as np
import torch

from benchmarks._report import Report, alternating, median_and_spread, seconds
from benchmarks._vllm_sides import ENGINE, STEP_TOKENS, STEPS, TOKENS, some_prompts, write_model
from smcgen import conditional_smc, smc
from smcgen.core.cost import Cost, Meter
from smcgen.text import VLLM, FunctionReward, Prompt, TextModel, Transformers

PROMPT, WRITTEN = 70, 3


def reward(texts: list[list[int]]) -> list[float]:
    """It disagrees about everything and costs nothing."""
    return [(hash(tuple(ids)) % 1000) / 500.0 for ids in texts]


def scored_rows(report: Report, engine: Any, n: int, repeats: int) -> None:
    """One continuation behind n texts: by the session's copies, by the prefix cache, and with all read again."""
    name = type(engine).__name__
    (prompt,) = some_prompts(1, PROMPT, engine.vocab_size)
    model = TextModel(engine, prompt, None, STEP_TOKENS, max_tokens=TOKENS)
    run = smc(model, 0, 2, keep="particles")
    path = run.path(0)
    state, _ = model.init(jax.random.key(1), n)
    for t in range(1, WRITTEN + 1):
        state, _ = model.step(jax.random.key(1 + t), t, state)
    left = run.particles.tokens(0)[WRITTEN * STEP_TOKENS :]
    heads = [Prompt((*prompt.ids, *state.texts.tokens(row)), "") for row in range(n)]
    meter = Meter()
    copies = partial(model.log_continue, WRITTEN + 1, state, path)
    again = partial(engine.score, heads, [left] * n, meter=meter)
    sides: dict[str, Callable[[], Any]] = {"copies of the texts": copies, "texts as prompts": again}
    measured = alternating([partial(seconds, side) for side in sides.values()], repeats)
    ratios = measured / measured[:, :1]
    read = [_read(state.meter, copies), _read(meter, again)]
    for k, what in enumerate(sides):
        times = median_and_spread(measured[:, k]), median_and_spread(ratios[:, k])
        report.row(f"{name}: {what}", *times, str(read[k]))
    np.testing.assert_allclose(np.ravel(copies()), [x.sum() for x in again()], atol=1e-2)
    model.close(state)
    if isinstance(engine, VLLM):
        engine._core.engine.reset_prefix_cache()
        read.append(_read(meter, again))
        report.row(f"{name}: nothing in the prefix cache", "", "", str(read[-1]))
    report.aim(f"{name}_tokens_against_all", read[0] / (n * (PROMPT + TOKENS)), 0.5)


def _read(meter: Meter, side: Callable[[], Any]) -> int:
    before = meter.read().tokens_prefilled
    side()
    return meter.read().tokens_prefilled - before


def sweep_rows(report: Report, engine: Any, n: int, repeats: int) -> None:
    """A sweep, with and without ancestor sampling, against a filter of as many particles."""
    name = type(engine).__name__
    (prompt,) = some_prompts(1, PROMPT, engine.vocab_size)
    potential = FunctionReward(reward, on="ids")
    model = TextModel(engine, prompt, potential, STEP_TOKENS, STEPS, TOKENS)
    path = smc(model, 0, 2, keep="particles").path(0)
    sweep = partial(conditional_smc, model, 1, path, n)
    sides = {
        "a filter": partial(smc, model, 1, n, ess_threshold=1.0, keep="particles"),
        "a sweep": sweep,
        "a sweep, ancestor sampling": partial(sweep, ancestor_sampling=True),
    }
    measured = alternating([partial(seconds, side) for side in sides.values()], repeats)
    ratios = measured / measured[:, :1]
    for k, (what, side) in enumerate(sides.items()):
        times = median_and_spread(measured[:, k]), median_and_spread(ratios[:, k])
        report.row(
            f"{name}: {what}, n = {n}", *times, str((side().cost or Cost()).tokens_prefilled)
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="end with a line of JSON")
    parser.add_argument("--repeats", type=int, default=5, help="pairs that are measured")
    parser.add_argument("--n", type=int, default=64, help="particles")
    options = parser.parse_args()
    torch.set_num_threads(1)
    columns = ("what", "seconds: median (range)", "ratio: median (range)", "tokens read")
    report = Report("ancestor sampling on texts; ratios to the first of each group", columns)
    with tempfile.TemporaryDirectory() as folder:
        saved = write_model(Path(folder), 2048, ends=False)
        engines: list[Callable[[], Any]] = [partial(Transformers, saved)]
        if importlib.util.find_spec("vllm") is not None:
            engines.append(partial(VLLM, saved, **ENGINE))
        for make in engines:
            engine = make()
            scored_rows(report, engine, options.n, options.repeats)
            sweep_rows(report, engine, options.n, options.repeats)
            if isinstance(engine, VLLM):
                engine.close()
    report.show(options.json)


if __name__ == "__main__":
    main()
