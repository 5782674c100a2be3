"""Measure the shipped models on the held-out problems: ``python -m models.evaluate``.

Policies: accuracy of one sampled text (temperature 1) and of greedy decoding. Rewards: AUC and
calibration error over all step ends of texts the policy sampled, and for Countdown the accuracy of
the text of each problem that the reward likes best. Results go to ``metrics.json`` in
each model's folder and into the table of its card.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

import numpy as np
from scipy.special import expit
from transformers import AutoTokenizer, LlamaForCausalLM, LlamaForTokenClassification

from models import countdown, tape
from models._common import start
from models._metrics import auc, ece
from models._reward import read
from models._sample import sample
from models._task import COUNTDOWN, TAPE, Task

Metrics = dict[str, float]
Rows = list[tuple[str, str, bool]]
GROUPS = {
    "tape": ("ops", {"T=2": 2, "T=4": 4, "T=8": 8}, ["tape-prm-good", "tape-prm-fair"]),
    "countdown": (None, {"all": None}, ["countdown-prm"]),
}
REPEATS = {"tape": 4, "countdown": 16}
"""Texts sampled for each problem."""


def problems(task: Task) -> dict[str, list[str]]:
    """Held-out prompts by group (number of operations for the tape)."""
    rows = tape.load() if task.name == "tape" else countdown.load()
    key, groups, _ = GROUPS[task.name]
    return {
        label: [row["prompt"] for row in rows if key is None or row[key] == value]
        for label, value in groups.items()
    }


def sampled(folder: Path, prompts: list[str], *, repeats: int, seed: int, greedy: bool) -> Rows:
    """Texts the policy in ``folder`` writes for the prompts."""
    model = LlamaForCausalLM.from_pretrained(folder).eval()
    prompts = prompts * repeats
    temperature = 0.0 if greedy else 1.0
    tokenizer = AutoTokenizer.from_pretrained(folder)
    texts = sample(model, tokenizer, prompts, seed=seed, temperature=temperature)
    return [(p, t, ended) for p, (t, ended) in zip(prompts, texts, strict=True)]


def policy_metrics(task: Task, folder: Path, texts: dict[str, Rows], seed: int) -> Metrics:
    """Share of texts that are right, and of lines that are right given that those before are."""
    metrics = {}
    for label, rows in texts.items():
        right = [task.is_right(p, t) for p, t, _ in rows]
        metrics[f"pass@1 sampled, {label}"] = float(np.mean(right))
        prompts = list(dict.fromkeys(row[0] for row in rows))
        greedy = sampled(folder, prompts, repeats=1, seed=seed, greedy=True)
        metrics[f"pass@1 greedy, {label}"] = float(
            np.mean([task.is_right(p, t) for p, t, _ in greedy])
        )
        if task is COUNTDOWN:
            valid = [all(countdown.valid_lines(p, t)) for p, t, _ in rows]
            metrics[f"all lines valid, {label}"] = float(np.mean(valid))
        tries = [g for p, t, _ in rows for g in _first_failures(task.grade(p, t))]
        metrics[f"good lines sampled, {label}"] = float(np.mean(tries))
    return metrics


def _first_failures(grades: list[bool]) -> list[bool]:
    """The grades up to and including the first failure: one trial for each line still in play."""
    return grades[: grades.index(False) + 1] if False in grades else grades


def reward_metrics(task: Task, folder: Path, texts: dict[str, Rows]) -> Metrics:
    """AUC and calibration over the step ends of each group, and AUC of first and last lines."""
    model = LlamaForTokenClassification.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    metrics = {}
    mixed = {"mixed": [row for rows in texts.values() for row in rows]}
    groups = mixed | texts if len(texts) > 1 else texts
    for label, rows in groups.items():
        pairs = read(model, tokenizer, rows, task.grade)
        logits = np.concatenate([found for found, _ in pairs])
        labels = np.concatenate([found for _, found in pairs])
        metrics[f"prefix AUC, {label}"] = auc(logits, labels)
        metrics[f"prefix ECE, {label}"] = ece(expit(logits), labels)
        for place, at in (("first line", 0), ("last line", -1)):
            chosen = [(found[at], good[at]) for found, good in pairs if found]
            metrics[f"{place} AUC, {label}"] = auc(*zip(*chosen, strict=True))
        if task is COUNTDOWN:
            tries = len(rows) // len({row[0] for row in rows})
            metrics[f"best-of-{tries}, {label}"] = best_of(rows, pairs, task)
    return metrics


def best_of(rows: Rows, pairs: list[tuple[list[float], list[bool]]], task: Task) -> float:
    """Accuracy of the text with the highest last logit among those sampled for its problem."""
    best: dict[str, tuple[float, bool]] = {}
    for (prompt, text, ended), (logits, _) in zip(rows, pairs, strict=True):
        found = (logits[-1] if ended else -np.inf, task.is_right(prompt, text))
        best[prompt] = max(best.get(prompt, found), found, key=lambda pair: pair[0])
    return float(np.mean([right for _, right in best.values()]))


def publish(folder: Path, metrics: Metrics, command: str) -> None:
    """Write ``metrics.json`` and the table between the card's two markers."""
    rounded = {name: round(value, 4) for name, value in metrics.items()}
    found = {"command": command, "metrics": rounded}
    (folder / "metrics.json").write_text(json.dumps(found, indent=2) + "\n")
    table = "\n".join(f"| {name} | {value:.3f} |" for name, value in rounded.items())
    block = f"<!-- metrics -->\n| measure | value |\n|---|---|\n{table}\n<!-- /metrics -->"
    card = folder / "README.md"
    if card.exists():
        text = card.read_text()
        card.write_text(re.sub(r"<!-- metrics -->.*<!-- /metrics -->", block, text, flags=re.S))
    print(f"{folder.name}: {json.dumps(rounded)}", flush=True)


def evaluate(task: Task, root: Path, repeats: int | None, seed: int, limit: int | None) -> None:
    """Measure a task's policy and rewards on the same sampled texts."""
    command = "python -m models.evaluate"
    policy = root / f"{task.name}-policy"
    repeats = repeats or REPEATS[task.name]
    texts = {
        label: sampled(policy, prompts[:limit], repeats=repeats, seed=seed, greedy=False)
        for label, prompts in problems(task).items()
    }
    publish(policy, policy_metrics(task, policy, texts, seed), command)
    for name in GROUPS[task.name][2]:
        if (root / name).exists():
            publish(root / name, reward_metrics(task, root / name, texts), command)


def main(argv: list[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path(__file__).parent)
    parser.add_argument("--tasks", nargs="+", default=["tape", "countdown"])
    parser.add_argument("--repeats", type=int, help="texts for each problem")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--limit", type=int, help="problems of each group, for a quick look")
    args = parser.parse_args(argv)
    start(args.seed)
    for task in (TAPE, COUNTDOWN):
        if task.name in args.tasks and (args.root / f"{task.name}-policy").exists():
            evaluate(task, args.root, args.repeats, args.seed, args.limit)


if __name__ == "__main__":
    main()
