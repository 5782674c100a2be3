"""Train the calculator-tape models: ``python -m models.train_tape``.

Stages, each working from the files the one before left behind:

- ``policy``: one language-model run. The first checkpoint whose sampled accuracy at eight
  operations reaches ``--strength`` ships as the (deliberately weak) policy; the end of the run is
  the expert.
- ``samples``: texts sampled from the policy, graded line by line.
- ``good``: a reward with the expert's body, so that it can check what the policy gets wrong.
- ``fair``: a reward with the policy's own body, which knows no more sums than the policy does.
"""

from __future__ import annotations

from models._pipeline import Plan, RewardPlan, command_line, run_task
from models._task import TAPE as TASK

PLAN = Plan(strength=0.22)
REWARDS = {
    "good": RewardPlan("tape-prm-good", steps=600, body="expert", extra_layers=2, lr=5e-3),
    "fair": RewardPlan("tape-prm-fair", steps=500, body="policy"),
}


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    args = command_line(argv, __doc__, ["policy", "samples", *REWARDS])
    run_task(TASK, PLAN, REWARDS, args)


if __name__ == "__main__":
    main()
