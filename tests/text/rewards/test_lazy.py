"""Naming rewards and factors loads none of the heavy packages; using them does."""

import subprocess
import sys

PROGRAM = """
import sys
import smcgen.text.engines as engines
import smcgen.text.factors as factors
import smcgen.text.rewards as rewards
for module in (engines, factors, rewards):
    for name in set(module.__all__) - {"Transformers"}:
        getattr(module, name)
    assert set(module.__all__) <= set(dir(module))
factors.TokenMask(lambda ids: ids)
rewards.FunctionReward(len)
print([name for name in ("torch", "transformers", "xgrammar") if name in sys.modules])
"""


def test_nothing_heavy_is_imported():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == "[]", done.stderr
