"""Steer a masked text-diffusion model: balanced brackets, nested as deep as possible.

python examples/masked_text.py

Four characters are revealed at each of six steps, as if they were independent, so that many plain samples are not
balanced. A particle filter that looks at several guesses of the finished text repairs that.
"""

import numpy as np
from transformers import AutoTokenizer, BertForMaskedLM

from smcgen.diffusion import Masked, steer
from smcgen.shipped import shipped

model = BertForMaskedLM.from_pretrained(shipped("brackets-mdlm")).eval()
tokenizer = AutoTokenizer.from_pretrained(shipped("brackets-mdlm"))


def depth(text: str) -> float:
    """How deep a balanced text nests; minus the number of brackets without a partner."""
    height = deepest = lonely = 0
    for c in text:
        height += (c == "(") - (c == ")")
        if height < 0:
            height, lonely = 0, lonely + 1
        deepest = max(deepest, height)
    return float(-(lonely + height) or deepest)


kernel = Masked(
    lambda ids, time: model(input_ids=ids).logits,
    canvas=24,
    mask_id=tokenizer.mask_token_id,
    steps=6,
    order="random-count",
    decoder=lambda ids: tokenizer.batch_decode(ids),
)
reward = lambda texts: [depth(text) for text in texts]

for name, options in {
    "plain": {"strength": 0.0, "twist": None},
    "best of 16": {"strength": 2.0, "twist": None},
    "16 particles, 8 guesses each": {"strength": 2.0, "draws": 8},
}.items():
    results = [steer(kernel, reward, key=k, n_particles=16, **options) for k in range(3)]
    mean = np.mean([r.weights @ r.rewards for r in results])
    best = np.mean([r.rewards.max() for r in results])
    print(f"{name:30} mean depth {mean:6.2f}, best {best:5.2f}, such as {results[0].best}")
