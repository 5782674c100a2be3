"""Train the Countdown models: ``python -m models.train_countdown``.

The same stages as the tape's: ``policy``, ``samples``, then one reward (``prm``) trained to say
whether every line is valid and the target can still be reached; its labels come from enumeration.
"""

from __future__ import annotations

from models._pipeline import Plan, RewardPlan, command_line, run_task
from models._task import COUNTDOWN as TASK

PLAN = Plan(strength=0.3, policy_steps=900, samples=8_000)
REWARDS = {
    "prm": RewardPlan("countdown-prm", steps=600, expert_body=True, extra_layers=1, body_rate=1.0)
}


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    args = command_line(argv, __doc__, ["policy", "samples", *REWARDS])
    run_task(TASK, PLAN, REWARDS, args)


if __name__ == "__main__":
    main()
