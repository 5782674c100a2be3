"""One request, made ready for a strategy."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from smcgen.text.answers import Extract
from smcgen.text.prompts import Prompt

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
        tokens: the most that may be written in all; None: no limit but that of each text.
        seed: fixes the run.
        options: how it is written and steered: strength, step, ess_threshold, max_tokens, temperature, top_p, top_k,
            stop.
    """

    engine: Any
    reward: Any
    extract: Extract | None
    prompt: Prompt
    strategy: str
    choices: int
    n_particles: int
    tokens: int | None
    seed: int
    options: Mapping[str, Any]
