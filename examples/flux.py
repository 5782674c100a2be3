"""Steer FLUX.1 (or Stable Diffusion 3) by the stochastic process that has its flow's marginals.

    python examples/flux.py --prompt "a photo of a red dog and a green cat" --k 4
    python examples/flux.py --model stabilityai/stable-diffusion-3.5-medium --prompts evaluation_metadata.jsonl

Options, output and evaluation are those of stable_diffusion.py. With eta = 0 a flow is deterministic and copies of a
particle stay copies; eta = 1 adds as much noise to each step as the flow's marginals allow.
"""

from pathlib import Path

from stable_diffusion import evaluate, parser

if __name__ == "__main__":
    defaults = {
        "model": "black-forest-labs/FLUX.1-dev",
        "steps": 28,
        "every": 5,
        "out": Path("runs/flux"),
    }
    evaluate(parser(**defaults).parse_args())
