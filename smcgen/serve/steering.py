"""What a strategy is given: one prompt and everything that `smcgen.steer` needs for it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from smcgen.text.answers import Extract
from smcgen.text.prompts import Prompt
from smcgen.text.result import SteerResult
from smcgen.text.steer import steer

Callback = Callable[[Any], None]


@dataclass(frozen=True)
class Steering:
    """One request, its limits checked and its defaults filled in.

    Attributes:
        engine, reward, extract: the server's.
        prompt: as token ids.
        strategy: its name.
        choices: how many texts the client wants.
        n_particles: texts that are written.
        seed: fixes the run.
        options: the other arguments of `smcgen.steer`: strength, step, ess_threshold, max_tokens, temperature,
            top_p, top_k, stop.
    """

    engine: Any
    reward: Any
    extract: Extract | None
    prompt: Prompt
    strategy: str
    choices: int
    n_particles: int
    seed: int
    options: Mapping[str, Any]

    def run(self, callback: Callback, **changes: Any) -> SteerResult:
        """`smcgen.steer` with some options changed; `callback` must be passed on, it is how a run is stopped."""
        options = {
            "model": self.engine,
            "reward": self.reward,
            "n_particles": self.n_particles,
            "answer": self.extract,
            "key": self.seed,
            **self.options,
        }
        # failed runs are told apart by their status: a client gets what there is of them
        return steer(self.prompt, **options | changes, callback=callback, on_error="return")
