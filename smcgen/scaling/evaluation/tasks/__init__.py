"""Tasks: problems with known answers, read from files that the user has.

`load_task(path)` reads JSON lines in the layouts of MATH500, MATH, AIME and GSM8K, or plain ones (`prompt`, `answer`);
`Task.templated` puts each problem into chat messages.
"""

from smcgen.scaling.evaluation.tasks.load import load_task as load_task
from smcgen.scaling.evaluation.tasks.problem import BadLine as BadLine
from smcgen.scaling.evaluation.tasks.problem import Problem as Problem
from smcgen.scaling.evaluation.tasks.problem import Task as Task
from smcgen.scaling.evaluation.tasks.templates import TEMPLATES as TEMPLATES

__all__ = ["TEMPLATES", "BadLine", "Problem", "Task", "load_task"]
