"""What steering costs over plain sampling on the same transformers engine.

Both sides write the same number of tokens with the same model; the steered side resamples (at every
step, whether due or not), and its reward's time is taken off. Run with `python benchmarks/text_overhead.py`.
"""

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

from benchmarks._report import Report, alternating, median_and_spread, options_of, seconds
from benchmarks._sizes import VOCAB, add_size, built
from smcgen import smc
from smcgen.core.resampling import Systematic
from smcgen.core.select import Adaptive, select
from smcgen.text import FunctionReward, TextModel, Transformers
from smcgen.text.prompts import Prompt

N, STEPS, STEP_TOKENS = 64, 6, 20


class IdsOnly:
    """A tokenizer for a model that speaks in ids alone."""

    eos_token_id = None
    chat_template = None

    def __init__(self, size: int):
        self._size = size

    def __len__(self) -> int:
        return self._size

    def decode(self, ids: list[int], **_: object) -> str:
        return " ".join(map(str, ids))


def engine(size: str = "small") -> Transformers:
    """A Qwen2 with random weights; it never ends a text."""
    model = built(Qwen2ForCausalLM, Qwen2Config, size, VOCAB[size])
    return Transformers(model, IdsOnly(VOCAB[size]))


def noise(ids: list[list[int]]) -> np.ndarray:
    """A reward that costs nothing and disagrees about everything."""
    return np.array([(hash(tuple(i)) % 1000) / 250.0 for i in ids])


def steered(model: Transformers, prompt: Prompt, step: int, threshold: float) -> float:
    """Seconds of a steered run without its reward."""
    total = STEPS * STEP_TOKENS
    reward = FunctionReward(noise, on="ids")
    task = TextModel(model, prompt, reward, step, total // step, total)
    run = smc(task, 0, N, ess_threshold=threshold, keep="summary")
    assert run.cost is not None
    assert run.cost.tokens_generated == N * total
    return run.cost.seconds - run.cost.reward_seconds


def plain(model: Transformers, prompt: Prompt) -> float:
    """Seconds of plain sampling: one step, no potential."""
    total = STEPS * STEP_TOKENS
    return seconds(
        partial(smc, TextModel(model, prompt, None, total, 1, total), 0, N, keep="summary")
    )


def generate(model: Transformers, prompt: Prompt) -> float:
    """Seconds of transformers' own `generate`."""
    ids = torch.tensor([prompt.ids], device=model.model.device)
    options = {"do_sample": True, "num_return_sequences": N, "max_new_tokens": STEPS * STEP_TOKENS}
    return seconds(
        partial(model.model.generate, ids, attention_mask=torch.ones_like(ids), **options)
    )


def text_rows(report: Report, size: str, full: bool, lengths: tuple[int, ...]) -> None:
    """Step level and token level against plain sampling, per prompt length."""
    model, repeats = engine(size), 9 if full else 3
    for length in lengths:
        ids = np.random.default_rng(0).integers(2048, size=length).tolist()
        prompt = Prompt(tuple(ids), "")
        sides = [
            partial(plain, model, prompt),
            partial(steered, model, prompt, STEP_TOKENS, 1.0),
            partial(steered, model, prompt, 1, 1.0),
            partial(steered, model, prompt, 1, 0.5),
        ]
        names = [
            "plain sampling",
            "step level, resampling at every step",
            "token level, resampling at every token",
            "token level, resampling when ESS < n/2",
        ]
        if length <= 128 or full:  # generate() copies the prompt for each text: minutes at 1024
            sides.append(partial(generate, model, prompt))
            names.append("transformers generate()")
        measured = alternating(sides, repeats)
        ratios = measured / measured[:, :1]
        for name, s, r in zip(names, measured.T, ratios.T, strict=True):
            speed = N * STEPS * STEP_TOKENS / np.median(s)
            report.row(
                f"{name}, prompt {length}",
                median_and_spread(s),
                median_and_spread(r),
                f"{speed:.0f}",
            )
        report.aim(f"step_level_prompt_{length}", np.median(ratios[:, 1]), 1.10)
        report.aim(f"token_level_prompt_{length}", np.median(ratios[:, 2]), 1.25)


def memory_rows(report: Report, size: str, lengths: tuple[int, ...]) -> None:
    """Bytes of the population's cache against a row of cache for every particle."""
    from smcgen.text._torch.population import Population

    model = engine(size)
    for length in lengths:
        ids = np.random.default_rng(0).integers(2048, size=length).tolist()
        population = Population(model.model, [ids], N)
        rows = np.arange(N)
        tokens = np.zeros((N, STEPS * STEP_TOKENS), np.int64)
        population.feed(rows, tokens, np.full(N, tokens.shape[1]))
        config = model.model.config
        head = config.hidden_size // config.num_attention_heads
        bytes_each = model.model.dtype.itemsize
        per_token = 2 * config.num_hidden_layers * config.num_key_value_heads * head * bytes_each
        copied = N * (length + tokens.shape[1]) * per_token
        ratio = population.nbytes / copied
        report.row(
            f"cache, prompt {length}", f"{population.nbytes / 2**20:.1f} MiB", f"{ratio:.3f}", ""
        )


def select_rows(report: Report) -> None:
    """Latency of one `select` call from Python, n = 4..4096."""
    resampler, key = Adaptive(Systematic(), 1.0), jax.random.key(0)
    for n in (4, 16, 64, 256, 1024, 4096):
        weights = jax.nn.log_softmax(jax.random.normal(jax.random.key(1), (n,)))
        ess, active = jnp.float32(1.0), jnp.bool_(True)
        call = lambda w=weights, e=ess, a=active: jax.block_until_ready(
            select(key, 1, w, e, a, resampler)
        )
        call()
        times = np.array([seconds(call) for _ in range(200)]) * 1e6
        report.row(f"select, n = {n}", f"{np.median(times):.0f} us", "", "")


def main() -> None:
    """Measure and print."""
    parser = options_of(__doc__ or "")
    add_size(parser)
    options = parser.parse_args()
    torch.set_num_threads(1)
    report = Report(
        f"steering n = {N} texts of {STEPS} x {STEP_TOKENS} tokens: seconds (reward apart) and ratio to plain",
        ("what", "seconds: median (range)", "ratio: median (range)", "tokens/s"),
    )
    lengths = (70, 1024)
    text_rows(report, options.size, options.full, lengths)
    memory_rows(report, options.size, lengths)
    select_rows(report)
    report.show(options.json)


if __name__ == "__main__":
    main()
