"""Evaluation: which strategy is worth its cost with this model, this reward and this budget?

    results = evaluate(load_task("math500.jsonl"), ["best-of-n", "particle-filter"], engine, reward, budgets=(1, 4, 16))
    print(results)

* `tasks`: problems with known answers, from files
* `evaluate`: every problem by every strategy; records that survive a kill, see `journal`; `RayWorkers` spreads them
* `Degraded`: a reward made worse on purpose
* `Results`: records as curves; `summary` and `table`, `figure`, scaling ratios and coverage
* `statistics`: the mathematics, on plain arrays
"""

from typing import TYPE_CHECKING

from smcgen._lazy import lazy

if TYPE_CHECKING:
    from smcgen.scaling.evaluation.actors import RayWorkers as RayWorkers
    from smcgen.scaling.evaluation.degraded import Degraded as Degraded
    from smcgen.scaling.evaluation.figures import figure as figure
    from smcgen.scaling.evaluation.journal import EvaluationError as EvaluationError
    from smcgen.scaling.evaluation.later import Later as Later
    from smcgen.scaling.evaluation.quality import quality_figure as quality_figure
    from smcgen.scaling.evaluation.quality import reward_quality as reward_quality
    from smcgen.scaling.evaluation.records import Record as Record
    from smcgen.scaling.evaluation.results import Results as Results
    from smcgen.scaling.evaluation.rows import summary as summary
    from smcgen.scaling.evaluation.run import evaluate as evaluate
    from smcgen.scaling.evaluation.tables import save as save
    from smcgen.scaling.evaluation.tables import table as table
    from smcgen.scaling.evaluation.tasks import Problem as Problem
    from smcgen.scaling.evaluation.tasks import Task as Task
    from smcgen.scaling.evaluation.tasks import load_task as load_task
    from smcgen.scaling.evaluation.workers import Workers as Workers

_HERE = "smcgen.scaling.evaluation"
_NAMES = {
    "Degraded": f"{_HERE}.degraded",
    "EvaluationError": f"{_HERE}.journal",
    "Later": f"{_HERE}.later",
    "Problem": f"{_HERE}.tasks",
    "RayWorkers": f"{_HERE}.actors",
    "Record": f"{_HERE}.records",
    "Results": f"{_HERE}.results",
    "Task": f"{_HERE}.tasks",
    "Workers": f"{_HERE}.workers",
    "evaluate": f"{_HERE}.run",
    "figure": f"{_HERE}.figures",
    "quality_figure": f"{_HERE}.quality",
    "reward_quality": f"{_HERE}.quality",
    "load_task": f"{_HERE}.tasks",
    "save": f"{_HERE}.tables",
    "summary": f"{_HERE}.rows",
    "table": f"{_HERE}.tables",
}
__all__ = [
    "Degraded",
    "EvaluationError",
    "Later",
    "Problem",
    "RayWorkers",
    "Record",
    "Results",
    "Task",
    "Workers",
    "evaluate",
    "figure",
    "load_task",
    "quality_figure",
    "reward_quality",
    "save",
    "summary",
    "table",
]
__getattr__, __dir__ = lazy(__name__, _NAMES)
