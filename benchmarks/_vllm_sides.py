"""What `vllm_steering.py` measures: a small model on disk, plain generation, steered generation."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast, Qwen2Config

from benchmarks._report import seconds
from benchmarks._sizes import GPU, built
from benchmarks.text_overhead import noise
from smcgen import smc, smc_each
from smcgen.core.cost import Cost
from smcgen.text import VLLM, FunctionReward, Prompt, Regex, Step, TextModel
from smcgen.text.rewards._scorer import Qwen2ForProcessRewardModel

STEPS, STEP_TOKENS = 6, 20
TOKENS = STEPS * STEP_TOKENS
FIRST = (
    0x20000  # code point of token 0: a token is a character, so that no text is read in two ways
)
STEP_MARK = 151_651  # token of "<extra_0>" in Qwen2.5-Math-PRM
SEEDS = itertools.count(1)
# both sides, and the server that a peer asks
_GPU = {"gpu_memory_utilization": 0.3, "kv_cache_memory_bytes": 8 << 30}
_CPU = {"dtype": "float32", "block_size": 32, "enforce_eager": True}
ENGINE: dict[str, Any] = {"max_num_seqs": 256, **(_GPU if GPU else _CPU)}


def write_model(folder: Path, vocab: int, ends: bool, size: str = "small") -> Path:
    """A Llama with random weights and lively logits; its last token ends a text if `ends`."""
    last = vocab - 1 if ends else None
    model = built(LlamaForCausalLM, LlamaConfig, size, vocab, eos_token_id=last)
    model.lm_head.weight.data.mul_(8.0)
    model.save_pretrained(folder)
    words = {chr(FIRST + i): i for i in range(vocab - 1)} | {"<end>": vocab - 1}
    raw = Tokenizer(models.WordLevel(words, unk_token="<end>"))
    raw.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    raw.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    end = {"eos_token": "<end>"} if ends else {}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<end>", **end)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    return folder


def write_reward(folder: Path, vocab: int = 2048) -> Path:
    """A process reward with the classes, the template and the marks of Qwen2.5-Math-PRM, of the small model's size."""
    letters = [chr(FIRST + i) for i in range(vocab - 1)]
    marks = ["<end>", "<|im_start|>", "<|im_end|>"]
    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=2 * vocab, min_frequency=1, special_tokens=marks, initial_alphabet=alphabet
    )
    learned.train_from_iterator(letters, trainer)  # a letter is a token
    found = json.loads(learned.to_str())["model"]
    # vLLM knows the mark of a step by its number
    vocabulary = found["vocab"] | {"<extra_0>": STEP_MARK}
    raw = Tokenizer(models.BPE(vocabulary, [tuple(m) for m in found["merges"]]))
    raw.pre_tokenizer = learned.pre_tokenizer
    raw.decoder = decoders.ByteLevel()
    special = {"additional_special_tokens": [*marks, "<extra_0>"], "pad_token": "<end>"}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **special)
    turn = "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    tokenizer.chat_template = "{% for m in messages %}" + turn + "{% endfor %}"
    model = built(Qwen2ForProcessRewardModel, Qwen2Config, "small", STEP_MARK + 1)
    ids = torch.randint(vocab, (64, 90), device=model.device)
    ids[:, -1] = STEP_MARK
    with torch.inference_mode():
        gap = model(ids).logits[:, -1].diff(dim=-1)[:, 0]
    head = model.score[2]  # so that texts differ by 1 in their log-odds
    head.weight.data /= gap.std()
    head.bias.data = torch.stack([gap.mean(), -gap.mean()]) / (2 * gap.std())
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def some_prompts(count: int, length: int, vocab: int) -> list[Prompt]:
    """Prompts of random tokens."""
    ids = np.random.default_rng(0).integers(vocab - 1, size=(count, length)).tolist()
    return [Prompt(tuple(i), "") for i in ids]


def text_of(prompt: Prompt) -> str:
    """A prompt as its characters."""
    return "".join(chr(FIRST + i) for i in prompt.ids)


def plain(engine: VLLM, prompts: Sequence[Prompt], n: int, seeded: bool = True) -> float:
    """Seconds that vLLM itself takes for `n` texts on each prompt, as `LLM.generate` asks for them."""
    from vllm.sampling_params import RequestOutputKind, SamplingParams

    llm: Any = engine._core.engine  # between runs nobody else steps it
    written = 0

    def work() -> None:
        nonlocal written
        for number, prompt in enumerate(p for p in prompts for _ in range(n)):
            params = SamplingParams(
                temperature=1.0,
                max_tokens=TOKENS,
                ignore_eos=True,
                detokenize=False,
                seed=next(SEEDS) if seeded else None,
                output_kind=RequestOutputKind.FINAL_ONLY,
            )
            asked = {"type": "token", "prompt_token_ids": list(prompt.ids)}
            llm.add_request(str(number), asked, params)
        while llm.has_unfinished_requests():
            for out in llm.step():
                written += len(out.outputs[0].token_ids)

    took = seconds(work)
    assert written == len(prompts) * n * TOKENS
    return took


class Steered:
    """A way to steer. Called, it gives seconds, the reward's own apart; `cost` and `forked` are the last run's.

    Args:
        engine: the engine.
        prompts: one or several; several run each at its own pace.
        n: texts on each.
        step: the step rule.
        threshold: resample when ESS < threshold * n.
        potential: what steers; a reward that costs nothing and disagrees about everything if None.
        forks: whether a copy may begin with its parent's cache.
    """

    def __init__(
        self,
        engine: VLLM,
        prompts: Sequence[Prompt],
        n: int,
        step: Any = STEP_TOKENS,
        threshold: float = 1.0,
        potential: Any = None,
        forks: bool = True,
    ):
        steers = FunctionReward(noise, on="ids") if potential is None else potential
        most = TOKENS // step if isinstance(step, int) else None
        self._models = [TextModel(engine, p, steers, step, most, TOKENS) for p in prompts]
        self._scheduler, self._forks = engine._core.scheduler, forks
        self._n, self._threshold = n, threshold
        self.cost, self.forked = Cost(), 0

    def __call__(self) -> float:
        options: dict[str, Any] = {"ess_threshold": self._threshold, "keep": "summary"}
        runs: list[Any] = []

        def work() -> None:
            key = jax.random.key(next(SEEDS))
            if len(self._models) == 1:
                runs.append(smc(self._models[0], key, self._n, **options))
            else:
                runs.extend(smc_each(self._models, key, self._n, **options))

        before, self._scheduler.forks = self._scheduler.forked, self._forks
        took = seconds(work)
        self._scheduler.forks = True
        self.forked = self._scheduler.forked - before
        self.cost = sum((run.cost for run in runs), Cost())
        assert self.cost.tokens_generated == len(self._models) * self._n * TOKENS
        # threads that score at once wait for each other: their rewards' seconds do not add up
        return took - (self.cost.reward_seconds if len(runs) == 1 else 0.0)


def token_level(engine: VLLM, prompts: Sequence[Prompt], n: int, **options: Any) -> Steered:
    """A step is a token."""
    return Steered(engine, prompts, n, 1, 0.5, **options)


def constrained(engine: VLLM, prompts: Sequence[Prompt], n: int) -> Steered:
    """Half of the vocabulary is allowed; texts run ahead until their weights differ too much."""
    half = Regex(f"[{chr(FIRST)}-{chr(FIRST + engine.vocab_size // 2)}]*", incomplete="allow")
    return Steered(engine, prompts, n, Step(ess=0.5, tokens=64), 0.5, half)
