"""Train the Countdown models: ``python -m models.train_countdown``.

The same stages as the tape's: ``policy``, ``samples``, then one reward (``prm``) trained to say
whether every line is valid and the target can still be reached; its labels come from enumeration.
"""

from __future__ import annotations

from models._pipeline import Plan, RewardPlan, command_line, run_task
from models._task import COUNTDOWN as TASK

PLAN = Plan(strength=1.0, policy_steps=900, samples=24_000, policy_slips=0.0)
REWARDS = {
    "prm": RewardPlan(
        "countdown-prm", steps=2400, body=None, extra_layers=4, lr=1e-2, check_every=250
    )
}


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    args = command_line(argv, __doc__, ["policy", "samples", *REWARDS])
    run_task(TASK, PLAN, REWARDS, args)


if __name__ == "__main__":
    main()
