"""`evaluate`: the one call."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from smcgen.core.arguments import check_counts
from smcgen.errors import InvalidArgument
from smcgen.scaling.evaluation.journal import EvaluationError, Journal
from smcgen.scaling.evaluation.live import LiveTable
from smcgen.scaling.evaluation.results import Results
from smcgen.scaling.evaluation.solver import Solver
from smcgen.scaling.evaluation.tasks import Problem, Task
from smcgen.scaling.evaluation.tasks.load import as_task
from smcgen.scaling.evaluation.timed import check_seconds
from smcgen.scaling.evaluation.units import Plan, plan_of
from smcgen.scaling.evaluation.workers import Here, Workers
from smcgen.scaling.writing import Writing
from smcgen.text.identity import identity


def evaluate(
    task: Task | Sequence[Problem] | str | Path,
    strategies: Any,
    engine: Any,
    reward: Any = None,
    budgets: Any = (1, 4, 16),
    seeds: Sequence[int] = (0,),
    *,
    writing: Writing = Writing(answer="boxed", equivalent="numeric"),
    out: str | Path | None = None,
    batch: int | None = None,
    retries: int = 1,
    patience: int = 10,
    reward_timeout: float | None = None,
    keep_texts: bool = True,
    progress: bool = False,
    workers: Workers | None = None,
) -> Results:
    """Solve every problem by every strategy at every budget with every seed, and say how well.

    Args:
        task: problems with answers, or the path of a file of them, see `load_task`.
        strategies: names, `Strategy`s, or a mapping of the names they are to have.
        engine: an engine or what `steer` takes as `model`; or a `Later` that makes one where it is used.
        reward: what steers; several by name, to compare them; or `Later`.
        budgets: rollouts, or `Budget`s: per prompt.
        seeds: each is another run over all problems.
        writing: how texts are written, how an answer is read, and when it is the right one (`equivalent`).
        out: a folder for records; with records of the same settings in it, only what is missing is run. None keeps
            them in memory.
        batch: problems in one engine call; None: as many as make 2048 texts, at most 64. It changes no
            result, but under a limit on seconds.
        retries, patience: how often a problem that fails is tried again, and how many may fail in a row.
        reward_timeout: seconds that one call of a reward may take.
        keep_texts: record all texts, not only the chosen one.
        progress: show a live table.
        workers: who does the work; None: this process. `RayWorkers` spreads it.

    Returns:
        `Results`, over all that was recorded for these problems.

    Raises:
        InvalidArgument: an argument is not allowed.
        EvaluationError: `out` has records of other settings or cannot be written, or too much fails. What was
            recorded is kept, as after Ctrl-C: the same call goes on from there.
    """
    task = as_task(task)
    # both may refuse what they are given: now, not at the first problem
    if writing.extract is None or writing.same is None:
        raise InvalidArgument("writing.answer", None, "how an answer is read")
    check_counts(0, retries=retries)
    check_counts(patience=patience)
    if reward_timeout is not None:
        check_seconds(reward_timeout)
    rewards = dict(reward) if isinstance(reward, Mapping) else {"reward": reward}
    rewards = {str(name): r for name, r in rewards.items() if r is not None}
    plan = plan_of(task, strategies, list(rewards), budgets, seeds, batch)
    solver = Solver(
        engine,
        rewards,
        writing,
        retries,
        min(patience, len(task)),
        keep_texts,
        reward_timeout,
    )
    with workers or Here() as crew:
        settings = crew.open(solver) | {
            "writing": identity(writing),
            "strategies": {name: identity(s) for name, s in plan.strategies.items()},
        }
        with Journal(None if out is None else Path(out), settings) as journal:
            return _work(plan, crew, journal, progress)


def _work(plan: Plan, crew: Workers, journal: Journal, progress: bool) -> Results:
    digests = {problem.id: problem.digest for problem in plan.task}
    for record in journal.records.values():
        if digests.get(record.problem, record.digest) != record.digest:
            raise EvaluationError(
                f"problem {record.problem!r} has another prompt or answer than when it was recorded"
            )
    done = {key for key, record in journal.records.items() if record.error is None}
    with LiveTable(plan, journal.records.values(), progress) as shown:
        for records in crew.solve(plan.units(done)):
            journal.append(records)
            shown.add(records)
    return Results.of_plan(plan, journal.records.values())
