"""Two actors on a local Ray cluster, one of which is killed."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from smcgen.errors import InvalidArgument, MissingExtra
from smcgen.scaling.evaluation import Later, RayWorkers, Results, evaluate
from tests.scaling.evaluation import stub
from tests.scaling.evaluation.stub import WRITING, Mortal, Stub
from tests.text.toy import ToyEngine

CODE = """
import sys
from tests.scaling.evaluation.test_actors import spread
print(len(spread(*sys.argv[1:])))
"""


def spread(out, log):
    strategies = {"mortal": Mortal(log=log)}
    workers = RayWorkers("local", actors=2, cpus=0.5)
    engine = Later(ToyEngine)
    return evaluate(
        *(stub.task(8), strategies, engine, None, 2, (0,)),
        writing=WRITING, out=out, batch=1, workers=workers,
    )  # fmt: skip


@pytest.mark.slow
def test_an_actor_that_is_killed_costs_its_problem_a_second_run_and_nothing_else(tmp_path):
    """In a process of its own, which Ray may fill with threads and handlers."""
    pytest.importorskip("ray")
    log = tmp_path / "log"
    env = os.environ | {"RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0"}
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(tmp_path / "out"), str(log)],
        cwd=Path(__file__).parents[3], env=env, capture_output=True, text=True, check=False, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.split()[-1] == "8"
    asked = Counter(log.read_text().splitlines())
    assert asked == {f"prompt {i}": 2 if i == 3 else 1 for i in range(8)}
    # here, without actors, from another order and in one batch: the same
    here = evaluate(stub.task(8), {"mortal": Stub()}, ToyEngine(), None, 2, (0,), writing=WRITING)
    said = lambda results: {r.key: (r.texts, r.answer, r.weights) for r in results}
    assert said(Results.load(tmp_path / "out")) == said(here)


def test_workers_that_cannot_be_are_refused(monkeypatch):
    with pytest.raises(InvalidArgument, match="actors=0"):
        RayWorkers(actors=0)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match=r"smcgen\[ray\]"), RayWorkers("local"):
        pass
