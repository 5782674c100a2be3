"""Train the digit models: ``python -m models.train_digits`` (extra ``train``: scikit-learn has the data).

- ``denoiser``: a diffusion model of handwritten digits.
- ``classifier``: to steer by.
- ``judge``: only to judge what came out; nothing is ever steered by it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from models._common import start
from models._digits import load, train_denoiser, train_judge, train_steering

STAGES = ("denoiser", "classifier", "judge")


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tiny", action="store_true", help="a run of seconds, for tests")
    args = parser.parse_args(argv)
    data, test = load()
    for number, stage in enumerate(STAGES):
        if stage not in args.stages:
            continue
        print(f"== {stage}", flush=True)
        start(args.seed + number)
        if stage == "denoiser":
            steps, rows, hidden = (3, 8, 16) if args.tiny else (3000, 128, 192)
            model = train_denoiser(data, test, steps, rows, hidden)
        else:
            train = train_steering if stage == "classifier" else train_judge
            model = train(data, test, *((3, 8) if args.tiny else (1500, 128)))
        model.save_pretrained(args.out / f"digits-{stage}", half=True)


if __name__ == "__main__":
    main()
