"""The summary for people (rich) and as files (CSV, Markdown, JSON)."""

import csv
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rich.markup import escape
from rich.table import Table

from smcgen.scaling.evaluation.quality import reward_quality
from smcgen.scaling.evaluation.records import json_line
from smcgen.scaling.evaluation.results import Results
from smcgen.scaling.evaluation.rows import INDEPENDENT, Row, summary
from smcgen.scaling.evaluation.statistics import PowerLaw, Ratio

_HEADS = ("strategy", "budget", "accuracy", "95 %", "gain", "coverage", "ECE")
_COSTS = ("tokens", "scored", "calls", "seconds", "MiB")


def table(results: Results, rows: Sequence[Row] | None = None) -> Table:
    """Accuracy with its interval, and cost per problem, of each strategy at each budget."""
    rows = summary(results) if rows is None else rows
    rewards, failed = len({r.reward for r in rows if r.reward}) > 1, any(r.failed for r in rows)
    first = rows[0] if rows else None
    about = f"{first.problems} problems, {first.seeds} seeds" if first else "nothing yet"
    shown = Table(
        title=f"{results.name}: {about}",
        caption="gain: over one sample; coverage: any text right; tokens drawn and scored: per problem",
    )
    heads = [*(["reward"] * rewards), *_HEADS, *_COSTS, *(["failed"] * failed)]
    for head in heads:
        if head in ("reward", "strategy"):
            shown.add_column(head, overflow="fold", min_width=15)
        else:
            shown.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        cells = dict(zip(_HEADS + _COSTS, _cells(row), strict=True))
        cells |= {"reward": escape(row.reward or "-"), "failed": str(row.failed)}
        shown.add_row(*(cells[head] for head in heads))
    return shown


def _cells(row: Row) -> list[str]:
    number = lambda value, form: "-" if math.isnan(value) else format(value, form)
    return [
        escape(row.strategy),
        row.budget,
        f"{row.accuracy:.3f}",
        f"{row.low:.2f}-{row.high:.2f}",
        number(row.gain, "+.3f"),
        f"{row.coverage:.3f}",
        number(row.ece, ".3f"),
        f"{row.tokens:.0f}",
        f"{row.scored:.0f}",
        f"{row.calls:.0f}",
        f"{row.seconds:.2f}",
        f"{row.memory / 2**20:.0f}" if row.memory else "-",
    ]


def ratios(
    results: Results, reference: str | None = None, by: str = "budget"
) -> tuple[dict[tuple[str | None, str], list[Ratio]], str]:
    """Scaling ratios of every other strategy, and the reference: a particle filter, if there is one."""
    found: dict[tuple[str | None, str], list[Ratio]] = {}
    known = dict.fromkeys(cell[1] for cell in results.cells)
    chosen = reference or next((n for n in known if n.startswith("particle-filter")), "")
    for reward in dict.fromkeys(cell[0] for cell in results.cells):
        own = dict.fromkeys(c[1] for c in results.cells if c[0] == reward)
        if chosen in own:
            names = dict.fromkeys(c[1] for c in results.cells if c[0] in (reward, None))
            for name in (n for n in names if n != chosen):
                found[reward, name] = results.scaling_ratio(chosen, name, reward, by)
    return found, chosen


def ratio_table(found: dict[tuple[str | None, str], list[Ratio]], reference: str) -> Table:
    """How many times the budget each strategy needs."""
    shown = Table(title=f"how many times the budget of {escape(reference)} the others need (95 %)")
    shown.add_column("strategy", overflow="fold")
    for at in dict.fromkeys(r.at for rs in found.values() for r in rs):
        shown.add_column(f"at {at:g}", justify="right", no_wrap=True)
    rewards = len({reward for reward, _ in found}) > 1
    for (reward, name), each in found.items():
        shown.add_row(escape(f"{name} ({reward})" if rewards else name), *map(str, each))
    return shown


def power_laws(results: Results) -> dict[str, PowerLaw]:
    """Fits of the coverage of independent texts, where there is enough to fit."""
    laws = {}
    for reward, name in dict.fromkeys(cell[:2] for cell in results.cells):
        if name.partition("[")[0] in INDEPENDENT and name not in laws:
            try:
                law = results.power_law(name, reward)
            except ValueError:  # all or nothing is covered, or there is one text only
                continue
            if (
                law not in laws.values()
            ):  # strategies that choose among the same texts have the same
                laws[name] = law
    return laws


def save(results: Results, folder: Path, rows: Sequence[Row] | None = None) -> list[Path]:
    """Write `summary.csv`, `summary.md` and `summary.json`."""
    rows = summary(results) if rows is None else rows
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"summary.{kind}" for kind in ("csv", "md", "json")]
    with paths[0].open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [f.name for f in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    paths[1].write_text(markdown(rows), encoding="utf-8")
    paths[2].write_text(_json(results, rows), encoding="utf-8")
    return paths


def markdown(rows: Sequence[Row]) -> str:
    """The table in Markdown."""
    heads = ("reward", *_HEADS, *_COSTS)
    lines = [" | ".join(heads), " | ".join("---" for _ in heads)]
    lines += [" | ".join([row.reward or "-", row.strategy, *_cells(row)[1:]]) for row in rows]
    return "".join(f"| {line} |\n" for line in lines)


def _json(results: Results, rows: Sequence[Row]) -> str:
    listed: list[dict[str, Any]] = [
        {"reward": reward, "strategy": name, **asdict(ratio)}
        for (reward, name), each in ratios(results)[0].items()
        for ratio in each
    ]
    laws = {name: asdict(law) for name, law in power_laws(results).items()}
    quality = reward_quality(results)
    whole = {"task": results.name, "rows": [asdict(row) for row in rows], "ratios": listed}
    # no NaN and no infinity: they are null
    plain = json.loads(json_line(whole | {"coverage_power_laws": laws, "reward_quality": quality}))
    return json.dumps(plain, indent=2) + "\n"
