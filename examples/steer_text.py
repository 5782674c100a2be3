"""Steer a language model with a process reward, and look at what happened.

python examples/steer_text.py
"""

import smcgen
from smcgen.shipped import shipped

result = smcgen.steer(
    "Q:47+86*3-19*4+55\n",
    model=shipped("tape-policy"),
    reward=shipped("tape-prm-good"),
    n_particles=16,
    answer=r"A:(\d+)",
)
print(result.trace())
print(result)
print("probability of each answer:", result.answers())
