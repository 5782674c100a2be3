"""What a reward function reads from its module tells two runs apart."""

import logging
import subprocess
import sys
import textwrap
from types import ModuleType

import numpy as np
import pytest

from smcgen.text.identity import identity

PROGRAM = """
import math
import logging
import threading
from dataclasses import dataclass
from re import compile as pattern
import numpy as np

WEIGHT = 1.0
WORDS = ["a", "b"]
TABLE = np.arange(3)
RULE = pattern("a+")
OPTIONS = {"deep": {"limit": 3}}
LOGGER = logging.getLogger("reward")
LOCK = threading.Lock()
UNUSED = 0
calls = 0
late = None

@dataclass
class Settings:
    limit: int

class Scorer:
    def __init__(self, weight):
        self.weight = weight

SETTINGS, SCORER = Settings(3), Scorer(2.0)

def helper(text):
    return deeper(text) * math.pi

def deeper(text):
    return WEIGHT * len(text) + (helper(text[1:]) if text else 0)

def reward(texts):
    global calls
    calls += 1
    with LOCK:
        LOGGER.info("asked")
    hits = [[w for w in WORDS if RULE.match(w)] for _ in texts]
    scale = OPTIONS["deep"]["limit"] * SETTINGS.limit * SCORER.weight
    return [helper(t) + TABLE.sum() + len(h) + scale for t, h in zip(texts, hits)]
"""
CHANGES = {
    "a number, two calls away": ("WEIGHT = 1.0", "WEIGHT = 2.0"),
    "code, one call away": ("math.pi", "math.e"),
    "a list": ('["a", "b"]', '["a", "c"]'),
    "an array": ("np.arange(3)", "np.arange(3) + 1"),
    "a pattern": ('"a+"', '"b+"'),
    "a nested value": ('"limit": 3', '"limit": 4'),
    "data": ("Settings(3)", "Settings(4)"),
    "an object": ("Scorer(2.0)", "Scorer(3.0)"),
    "a module": ("import math", "import cmath as math"),
}


def module(source=PROGRAM):
    made = ModuleType("user_program")
    exec(source, made.__dict__)
    return made


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_a_function_reads_counts(change):
    changed = PROGRAM.replace(*change)
    assert changed != PROGRAM
    assert identity(module(changed).reward) != identity(module().reward)


def test_what_it_does_not_read_or_sets_itself_does_not():
    before = identity(module().reward)
    assert identity(module(PROGRAM.replace("UNUSED = 0", "UNUSED = 1")).reward) == before
    run = module()
    run.reward(["a", ""])
    run.LOGGER.addHandler(logging.NullHandler())
    run.LOCK.acquire()
    assert identity(run.reward) == before
    assert " at 0x" not in before


def test_methods_and_functions_inside_functions_read_too():
    source = textwrap.dedent(
        """
        LEVEL = 1
        class Judge:
            def __call__(self, texts):
                return [(lambda t: LEVEL * len(t))(t) for t in texts]
        """
    )
    one, two = (module(source.replace("= 1", f"= {i}")).Judge() for i in (1, 2))
    assert identity(one) != identity(two)
    assert identity(one.__call__) != identity(two.__call__)


def test_libraries_are_named_and_not_followed():
    space = {"mean": np.mean, "dedent": textwrap.dedent}
    exec("f = lambda t: mean(dedent(t))", space)
    assert len(identity(space["f"])) < 300


def test_it_ends_however_deep_functions_call():
    source = "def f0(t): return 0\n"
    source += "".join(f"def f{i}(t): return f{i - 1}(t) + f{i // 2}(t)\n" for i in range(1, 60))
    assert identity(module(source).f59) == identity(module(source).f59)


def test_another_process_says_the_same():
    code = f"from smcgen.text.identity import identity\n{PROGRAM}\nprint(identity(reward))"
    run = lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    said = {run().stdout for _ in range(2)}
    assert len(said) == 1
    assert b" at 0x" not in said.pop()
