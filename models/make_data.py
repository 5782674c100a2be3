"""Write the held-out problem sets: ``python -m models.make_data``.

They are drawn once, from seeds of their own; training draws reject every prompt found in them.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from models import countdown, tape


def tape_rows(seed: int = 20_000) -> list[dict]:
    """400 problems of eight operations, 200 of four and 100 of two."""
    rng = np.random.default_rng(seed)
    seen: dict[str, dict] = {}
    for n_ops, count in ((8, 400), (4, 200), (2, 100)):
        target = len(seen) + count
        while len(seen) < target:
            drawn = tape.random_tape(rng, n_ops)
            row = {"prompt": drawn.prompt, "answer": drawn.answer, "ops": n_ops}
            seen.setdefault(drawn.prompt, {"id": f"tape-{n_ops}-{len(seen):04d}", **row})
    return list(seen.values())


def countdown_rows(seed: int = 30_000, count: int = 300) -> list[dict]:
    """Solvable problems, no two of them the same."""
    rng = np.random.default_rng(seed)
    rows: dict[str, dict] = {}
    while len(rows) < count:
        prompt, _ = countdown.random_problem(rng)
        numbers, target = countdown.parse(prompt)
        row = {"prompt": prompt, "numbers": list(numbers), "target": target}
        rows.setdefault(prompt, {"id": f"countdown-{len(rows):04d}", **row})
    return list(rows.values())


def write(path: Path, rows: list[dict]) -> None:
    """One JSON object a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    write(tape.HELD_OUT, tape_rows())
    write(countdown.HELD_OUT, countdown_rows())
