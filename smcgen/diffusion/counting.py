"""What a run of a diffusion model costs: the reward as it is counted, and all of a run before it begins."""

from typing import TYPE_CHECKING, Any

from smcgen.core.cost import Cost, Meter
from smcgen.diffusion.backends.base import Index, Tensor
from smcgen.diffusion.base import Scorer

if TYPE_CHECKING:
    from smcgen.diffusion.model import DiffusionModel


def scorer(model: "DiffusionModel", meter: Meter | None) -> Scorer:
    """The model's reward, counted and timed; without a meter (in a JAX program) as it is."""
    reward, decode = model.reward, model.kernel.decode

    def score(data: Tensor, problem: Index) -> Any:
        if meter is None:
            return reward(data, problem, decode)
        with meter.reward():
            scores = reward(data, problem, decode)
        meter.add(reward_calls=len(problem))
        return scores

    return score


def work_of(model: "DiffusionModel", n_particles: int) -> Cost:
    """Calls of the denoiser and of the reward, in rows."""
    rows, steps = n_particles * (model.num_problems or 1), model.resampling_steps
    looks, start = len(steps), 1 in steps
    wide = rows * model.candidates
    nfe = rows * (model.num_steps - looks + start) + wide * (looks - start)
    if model.reward is None:
        return Cost(nfe=nfe)
    calls = rows if model.kernel.deterministic[-1] else wide
    if model.twist is not None and model.twist.value is not None:
        count = model.twist.value.reward_calls
        calls += (looks - start) * count(wide) + start * count(rows)
    return Cost(nfe=nfe, reward_calls=calls)
