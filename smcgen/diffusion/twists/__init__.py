"""Twists: what guides the particles before the end. All of them have the same target.

| name | G at a time when the twist is evaluated | log psi_t |
|---|---|---|
| "difference" | exp(lambda_t v_t - lambda_s v_s), s the last such time | lambda_t v_t |
| "immediate" | exp(lambda_t v_t) | sum over s <= t of lambda_s v_s |
| "max" | exp(lambda_t max over s <= t of v_s) | their sum |
| "sum" | exp(lambda_t sum over s <= t of v_s) | their sum |

These are the potentials of FK steering (Singhal et al. 2025, section 3.2); the last factor, `psi_T / psi`, makes up for
whatever the others did. "difference" has the least variance. The others select more strongly than the target asks
for, the more so the more often they are evaluated, and pay for it at the end: use them at a few times.
"""

from smcgen.diffusion.base import Twist as Twist
from smcgen.diffusion.twists.potentials import Difference as Difference
from smcgen.diffusion.twists.potentials import Immediate as Immediate
from smcgen.diffusion.twists.potentials import Max as Max
from smcgen.diffusion.twists.potentials import Sum as Sum
