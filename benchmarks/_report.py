"""How every benchmark measures and reports: alternating pairs, medians with their spread, aims."""

import argparse
import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table


def options_of(description: str) -> argparse.ArgumentParser:
    """`--json` and `--full`, the options of every benchmark; for those that have more."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--json", action="store_true", help="end with a line of JSON")
    parser.add_argument("--full", action="store_true", help="the long version")
    return parser


def arguments(description: str) -> argparse.Namespace:
    """`--json` and `--full`, as they are given."""
    return options_of(description).parse_args()


def alternating(sides: Sequence[Callable[[], float]], repeats: int) -> np.ndarray:
    """Seconds of each side, shape (repeats, sides), measured A B A B ... after a warm-up of each.

    A side returns the seconds that count (its own reward time taken off, say).
    """
    for side in sides:
        side()
    return np.array([[side() for side in sides] for _ in range(repeats)])


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of one call, and of what it left a GPU to do."""
    import torch

    began = time.perf_counter()
    work()
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter() - began


@dataclass
class Report:
    """Rows for people and aims for machines."""

    title: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    aims: dict[str, dict[str, Any]] = field(default_factory=dict)

    def row(self, *cells: Any) -> None:
        """Add a row."""
        self.rows.append([c if isinstance(c, str) else f"{c:.3g}" for c in cells])

    def aim(self, name: str, value: float, most: float) -> None:
        """Add an aim of the form `value <= most`."""
        entry = {
            "value": round(float(value), 4),
            "aim": f"<= {most:.2f}",
            "met": bool(value <= most),
        }
        self.aims[name] = entry

    def show(self, as_json: bool) -> None:
        """Print the table, the aims, and the JSON line if asked."""
        table = Table(title=self.title)
        for i, column in enumerate(self.columns):
            table.add_column(column, justify="right" if i else "left")
        for row in self.rows:
            table.add_row(*row)
        console = Console(width=120)
        console.print(table)
        for name, aim in self.aims.items():
            console.print(
                f"{name}: {aim['value']} (aim {aim['aim']}) {'met' if aim['met'] else 'MISSED'}"
            )
        if as_json:
            print(json.dumps({"aims": self.aims, "machine": machine(), "versions": versions()}))


def machine() -> str:
    """Processor, cores, accelerator."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:
            model = next(
                line.split(":")[1].strip() for line in lines if line.startswith("model name")
            )
    except (OSError, StopIteration):
        pass
    return f"{model}, {os.cpu_count()} cores, torch threads {torch.get_num_threads()}, {gpu}"


def versions() -> dict[str, str]:
    """Versions of what is measured."""
    return {
        name: importlib.metadata.version(name) for name in ("torch", "jax", "transformers", "numpy")
    }


def median_and_spread(values: np.ndarray) -> str:
    """`median (min-max)`."""
    return f"{np.median(values):.3f} ({values.min():.3f}-{values.max():.3f})"
