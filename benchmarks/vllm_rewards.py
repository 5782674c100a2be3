"""What a process reward costs by vLLM, by our own cache, and by transformers reading everything again.

n texts grow by steps of 10 to 30 tokens; after each step all are scored and resampled. Every repeat has
texts of its own, so that no cache knows them. Run with `python benchmarks/vllm_rewards.py`.
"""

import itertools
import os
import sys
import tempfile
import threading
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
os.environ.setdefault("OMP_NUM_THREADS", "1")  # vLLM binds its threads when it starts

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForTokenClassification

from benchmarks._report import Report, alternating, arguments, median_and_spread, seconds
from smcgen.core.cost import Meter
from smcgen.text.prompts import Prompt
from smcgen.text.rewards import ProcessReward
from smcgen.text.rewards.base import Reward
from smcgen.text.rewards.vllm import VLLMProcessReward
from smcgen.text.texts import Texts

N, STEPS, VOCAB, THREADS = 64, 6, 2048, 8
SEEDS = itertools.count()
AGAIN = "transformers, all read again"


def parts() -> tuple[Any, Any]:
    """A Qwen2 of 4 layers, width 256, with a random head at every token; a tokenizer of numbers."""
    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCAB,
        hidden_size=256,
        intermediate_size=704,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        eos_token_id=None,
        bos_token_id=None,
    )
    config.num_labels = 1
    numbers = models.WordLevel({str(i): i for i in range(VOCAB)}, unk_token="0")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(numbers), unk_token="0")
    return Qwen2ForTokenClassification(config).eval(), tokenizer


class Padded(Reward):
    """Every text from its beginning, in one padded batch."""

    probability = True

    def __init__(self, model: Any):
        self._model = model

    def open_reward(self, prompts: Any, n: int, tokenizer: Any, meter: Meter) -> "Padded":
        return self

    @torch.inference_mode()
    def score(self, texts: Texts, rows: np.ndarray) -> np.ndarray:
        """Sigmoid of the head at each text's last token."""
        ids = [[*texts.prompt(row).ids, *texts.tokens(row)] for row in rows]
        lengths = torch.tensor([len(i) for i in ids])
        padded = torch.zeros((len(ids), int(lengths.max())), dtype=torch.int64)
        for k, i in enumerate(ids):
            padded[k, : len(i)] = torch.tensor(i)
        mask = torch.arange(padded.shape[1]) < lengths[:, None]
        logits = self._model(padded, attention_mask=mask.long()).logits
        return torch.sigmoid(logits[torch.arange(len(ids)), lengths - 1, 0]).double().numpy()

    def take(self, ancestors: np.ndarray) -> None:
        """There is no state."""

    def close(self) -> None:
        """There is no state."""


def grow(
    reward: Reward, tokenizer: Any, prompt: int, n: int, seed: int, meter: Meter | None = None
) -> tuple[float, np.ndarray]:
    """Seconds in the reward, and the last scores, of `n` texts."""
    rng = np.random.default_rng(seed)
    prompts = [Prompt(tuple(rng.integers(VOCAB, size=prompt).tolist()), "")]
    rows, spent, scores = np.arange(n), 0.0, np.zeros(n)
    session: Any = None

    def opened() -> None:
        nonlocal session
        session = reward.open_reward(prompts, n, tokenizer, meter or Meter())

    def scored(texts: Texts) -> None:
        nonlocal scores
        scores = session.score(texts, rows)

    spent += seconds(opened)
    ids = [[] for _ in rows]
    ends = np.zeros((n, 0), np.int64)
    for _ in range(STEPS):
        ids = [i + rng.integers(VOCAB, size=rng.integers(10, 31)).tolist() for i in ids]
        lengths = np.array([len(i) for i in ids])
        ends = np.concatenate([ends, lengths[:, None]], axis=1)
        block = np.full((n, lengths.max()), -1)
        for k, i in enumerate(ids):
            block[k, : len(i)] = i
        finish = np.zeros(n, np.int8)
        spent += seconds(
            partial(scored, Texts(prompts, n, block, lengths, ends, finish, tokenizer))
        )
        ancestors = np.sort(rng.integers(n, size=n))
        spent += seconds(partial(session.take, ancestors))
        ids, ends = [ids[a] for a in ancestors], ends[ancestors]
    session.close()
    return spent, scores


def growth_rows(report: Report, rewards: dict[str, Reward], tokenizer: Any, full: bool) -> None:
    """The three ways, per prompt length; long prompts take minutes to read again and again."""
    for prompt in (70, 1024):
        sides = {k: r for k, r in rewards.items() if k != AGAIN or prompt < 1024 or full}
        one, *others = [grow(r, tokenizer, prompt, N, 0)[1] for r in sides.values()]
        assert all(np.abs(one - other).max() < 1e-3 for other in others)
        calls = [
            lambda r=reward, p=prompt: grow(r, tokenizer, p, N, 1 + next(SEEDS))[0]
            for reward in sides.values()
        ]
        measured = alternating(calls, 9 if full else 3)
        ratios = measured / measured[:, 1:2]
        for (name, reward), s, r in zip(sides.items(), measured.T, ratios.T, strict=True):
            meter, read = Meter(), "all"
            if name != AGAIN:
                grow(reward, tokenizer, prompt, N, 1 + next(SEEDS), meter)
                read = str(meter.read().reward_tokens)
            what = f"{name}, prompt {prompt}"
            report.row(what, median_and_spread(s), median_and_spread(r), read)
        if AGAIN in sides:
            saved = float(np.median(measured[:, 0] / measured[:, 2]))
            report.aim(f"vllm_over_reading_again_prompt_{prompt}", saved, 0.50)


def thread_rows(report: Report, reward: Reward, tokenizer: Any, full: bool) -> None:
    """Problems that share one engine, in threads and one after another."""

    def work() -> None:
        grow(reward, tokenizer, 70, N // THREADS, 1 + next(SEEDS))

    def together() -> None:
        threads = [threading.Thread(target=work) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def alone() -> None:
        for _ in range(THREADS):
            work()

    measured = alternating([partial(seconds, together), partial(seconds, alone)], 9 if full else 5)
    ratios = measured / measured[:, -1:]
    names = ("in threads", "one after another")
    for name, s, r in zip(names, measured.T, ratios.T, strict=True):
        what = f"vLLM, {THREADS} problems of n = {N // THREADS} {name}"
        report.row(what, median_and_spread(s), median_and_spread(r), "")


def main() -> None:
    """Measure and print."""
    options = arguments(__doc__ or "")
    torch.set_num_threads(1)
    report = Report(
        f"scoring n = {N} texts after each of {STEPS} steps of 10-30 tokens",
        ("what", "seconds: median (range)", "ratio: median (range)", "tokens read"),
    )
    model, tokenizer = parts()
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        with VLLMProcessReward(folder, tokenizer) as served:
            sides = {
                "VLLMProcessReward": served,
                "ProcessReward": ProcessReward(model, tokenizer),
                AGAIN: Padded(model),
            }
            growth_rows(report, sides, tokenizer, options.full)
            thread_rows(report, served, tokenizer, options.full)
    report.show(options.json)


if __name__ == "__main__":
    main()
