"""A hard constraint with the right weight, times a reward: everything in one product.

The regex excludes every text with a 7 in it. Masking tokens silently would sample from another law; here the
mass of allowed tokens is in the weights, so `log_evidence` is the log-probability that the model, left
alone, writes a text that satisfies the constraint (times what the reward adds).

    python examples/constrained.py        needs the extra `constraints`
"""

import smcgen
from smcgen.shipped import shipped
from smcgen.text import ProcessReward, Regex, Transformers

engine = Transformers(shipped("tape-policy"))
prompt = "Q:12+34*2-11\n"
no_seven = Regex(r"[0-689+\-*=\nA:]*")

free = smcgen.steer(prompt, model=engine, n_particles=64)
print("without a constraint:", free.answers(r"A:(\d+)"))

bound = smcgen.steer(prompt, model=engine, reward=no_seven, step=1, n_particles=64, max_tokens=60)
print("no 7 anywhere:       ", bound.answers(r"A:(\d+)"))
print(f"P(no 7) = exp({bound.log_evidence:.2f} ± {bound.log_evidence_stderr:.2f})")

both = smcgen.steer(
    prompt,
    model=engine,
    reward=no_seven * ProcessReward(shipped("tape-prm-good")) ** 2.0,
    n_particles=64,
    max_tokens=60,
)
print("no 7 and right:      ", both.answers(r"A:(\d+)"))
