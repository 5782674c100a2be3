"""Searches for a sample of high reward, on the same models and at the same counted cost as steering.

| method | candidates of a round | cost of a round, n particles |
|---|---|---|
| "random" | independent noise, denoised to the end; one round is best-of-n | n T |
| "zero-order" | noise near that of the best sample so far | n T |
| "paths" | each of n paths, noised by some steps and denoised again in several ways | n branches (back + advance + 1) |

They maximise and do not sample: what they find is no draw from any stated law, and the further a reward is
maximised the less it means what it was trained to mean. Ma et al. (2025).
"""

from smcgen.diffusion.searches.noise import NoiseSearch as NoiseSearch
from smcgen.diffusion.searches.paths import PathSearch as PathSearch
from smcgen.diffusion.searches.run import SearchResult as SearchResult
from smcgen.diffusion.searches.run import search as search
