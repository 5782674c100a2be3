"""The stages every task goes through: policy, samples of it, and rewards trained on them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from transformers import LlamaForCausalLM

from models._batches import stored, stream
from models._common import Batch, build_tokenizer, fit, llama_config, save, start
from models._losses import RewardTrainer, SearchTrainer, language_loss, reward_loss
from models._metrics import auc
from models._reward import body_parameters, calibrate, fresh_reward, measure, reward_from
from models._sample import sample
from models._task import Task


@dataclass(frozen=True)
class Plan:
    """How much work the stages do; ``strength`` is the accuracy at which the policy is taken."""

    strength: float
    policy_steps: int = 2000
    samples: int = 12_000
    dev: int = 256
    hidden: int = 128
    rows: int = 64
    slips: float = 0.12
    policy_slips: float = 0.12
    lr: float = 1e-2

    def tiny(self) -> Plan:
        """The same run in seconds, for tests."""
        return replace(self, policy_steps=10, samples=64, dev=8, hidden=32, rows=8)


@dataclass(frozen=True)
class RewardPlan:
    """One reward to train: which body it starts from and for how long.

    ``extra_layers`` are fresh ones above the body. ``body_rate`` is the body's share of the
    learning rate: small, as the body knows most of what it needs.
    """

    name: str
    steps: int
    body: Literal["expert", "policy"] | None
    extra_layers: int = 0
    body_rate: float = 0.3
    lr: float = 4e-3
    check_every: int = 50

    def tiny(self) -> RewardPlan:
        """The same run in seconds, for tests."""
        return replace(self, steps=6)


@dataclass(frozen=True)
class Run:
    """A task, a plan, a seed and the folders; the stages are its methods."""

    task: Task
    plan: Plan
    out: Path
    scratch: Path
    seed: int = 0

    def __post_init__(self) -> None:
        self.scratch.mkdir(parents=True, exist_ok=True)

    @property
    def tokenizer(self):
        return build_tokenizer(self.task.alphabet)

    @property
    def policy_folder(self) -> Path:
        return self.out / f"{self.task.name}-policy"

    def policy(self) -> None:
        """One language-model run: an early checkpoint is the weak policy, its end the expert."""
        start(self.seed)
        tokenizer, plan = self.tokenizer, self.plan
        model = LlamaForCausalLM(llama_config(len(tokenizer), hidden=plan.hidden))
        prompts = self.task.prompts(np.random.default_rng(self.seed + 1), plan.dev, True)
        shipped = False

        def check(step: int) -> None:
            nonlocal shipped
            last = step == plan.policy_steps
            if shipped and not last:
                return
            texts = sample(model, tokenizer, prompts, seed=self.seed)
            hits = [self.task.is_right(p, t) for p, (t, _) in zip(prompts, texts, strict=True)]
            print(f"  sampled accuracy {np.mean(hits):.3f}", flush=True)
            if not shipped and (np.mean(hits) >= plan.strength or last):
                save(model, tokenizer, self.policy_folder)
                shipped = True

        batches = stream(self.task, tokenizer, self.seed, rows=plan.rows, slips=plan.policy_slips)
        fit(
            model, batches, language_loss,
            steps=plan.policy_steps, lr=plan.lr, check_every=25, check=check, name="policy",
        )  # fmt: skip
        save(model, tokenizer, self.scratch / "expert")

    def samples(self) -> None:
        """Sample texts for the rewards, two for each problem."""
        policy = LlamaForCausalLM.from_pretrained(self.policy_folder).eval()
        rng = np.random.default_rng(self.seed + 2)
        prompts = self.task.prompts(rng, self.plan.samples // 2, False) * 2
        texts = sample(policy, self.tokenizer, prompts, seed=self.seed + 2)
        rows = [[p, t, ended] for p, (t, ended) in zip(prompts, texts, strict=True)]
        (self.scratch / "samples.json").write_text(json.dumps(rows))
        print(f"sampled {len(rows)} texts", flush=True)

    def reward(self, plan: RewardPlan) -> None:
        """Train one reward on policy samples (and freshly worked texts in turn), then calibrate."""
        start(self.seed)
        tokenizer, task, rows = self.tokenizer, self.task, self.plan.rows
        texts = json.loads((self.scratch / "samples.json").read_text())
        dev_prompts = {row[0] for row in texts[: max(1, len(texts) // 20)]}
        dev = [row for row in texts if row[0] in dev_prompts]
        texts = [row for row in texts if row[0] not in dev_prompts]
        if plan.body is None:
            model = fresh_reward(len(tokenizer), self.plan.hidden, plan.extra_layers)
            trainer, slow = SearchTrainer(model, task.n_facts), []
        else:
            source = self.scratch / "expert" if plan.body == "expert" else self.policy_folder
            body = LlamaForCausalLM.from_pretrained(source)
            model = reward_from(body, extra_layers=plan.extra_layers)
            trainer, slow = RewardTrainer(model, body), body_parameters(model, body)

        def check(_: int) -> None:
            found = auc(*measure(model, tokenizer, dev, task.grade))
            print(f"  dev AUC {found:.4f}", flush=True)

        batches = stored(task, tokenizer, texts, self.seed + 3, rows=rows)
        if plan.body != "policy":
            fresh = stream(task, tokenizer, self.seed + 4, rows=rows, slips=self.plan.slips)
            batches = _alternate(batches, fresh)
        fit(
            trainer, batches, reward_loss,
            steps=plan.steps, lr=plan.lr, check=check, check_every=plan.check_every,
            name=plan.name, slow=slow, slow_factor=plan.body_rate,
        )  # fmt: skip
        calibrate(model, *measure(model, tokenizer, dev, task.grade))
        save(model, tokenizer, self.out / plan.name, half=True)


def _alternate(first: Iterator[Batch], second: Iterator[Batch]) -> Iterator[Batch]:
    while True:
        yield next(first)
        yield next(second)


def command_line(argv: list[str] | None, doc: str | None, stages: list[str]) -> argparse.Namespace:
    """The options all training scripts share."""
    parser = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", nargs="+", choices=stages, default=stages)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--scratch", type=Path, default=Path("build/models"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--strength", type=float, help="accuracy at which the policy is taken")
    parser.add_argument("--scale", type=float, default=1.0, help="times the work of each stage")
    parser.add_argument("--tiny", action="store_true", help="a run of seconds, for tests")
    return parser.parse_args(argv)


def run_task(
    task: Task, plan: Plan, rewards: dict[str, RewardPlan], args: argparse.Namespace
) -> None:
    """Run the chosen stages in order."""
    plan = replace(
        plan,
        strength=args.strength or plan.strength,
        policy_steps=round(plan.policy_steps * args.scale),
        samples=round(plan.samples * args.scale),
    )
    rewards = {k: replace(r, steps=round(r.steps * args.scale)) for k, r in rewards.items()}
    run = Run(task, plan.tiny() if args.tiny else plan, args.out, args.scratch, args.seed)
    for stage in args.stages:
        print(f"== {stage}", flush=True)
        if stage in rewards:
            run.reward(rewards[stage].tiny() if args.tiny else rewards[stage])
        else:
            {"policy": run.policy, "samples": run.samples}[stage]()
