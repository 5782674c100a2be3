"""What a server is started with: the model, how it steers by default, and its limits."""

import math
from dataclasses import dataclass, field
from numbers import Integral, Real
from typing import Any

from smcgen.errors import InvalidArgument
from smcgen.serve.auth import check_exposure
from smcgen.serve.strategies import STRATEGIES, find
from smcgen.text.answers import Extract, as_extractor
from smcgen.text.potentials.algebra import as_potential
from smcgen.text.sampling import Sampling
from smcgen.text.steer import steered
from smcgen.text.steps import as_step


@dataclass(frozen=True, kw_only=True)
class Config:
    """A server.

    Attributes:
        engine: what writes (`smcgen.text.engines.base.Engine`).
        model: the name by which clients ask for it.
        reward: what steers, see `smcgen.steer`; None: only strategies without a reward. A function is called
            from several threads, unless `max_concurrent` is 1.
        answer: how a text's answer is read; None: only strategies without an answer.
        strategy: name of the default strategy; None: "particle-filter" if there is a reward, else "sample".
        n_particles, strength, step, ess_threshold, temperature, top_p, top_k: defaults of a request.
        steps: delimiters that a request may choose as its `step`, beside a number of tokens. A fixed list,
            since each is compiled for the vocabulary once, and kept.
        max_particles: most particles of a request.
        max_tokens: most tokens of a text, and what a request that does not say gets.
        max_body_bytes: most bytes of a request.
        max_concurrent: runs at a time; 1 for an engine that threads must not share.
        max_queue: requests that may wait; more are refused with 429.
        timeout: seconds a request may take, waiting included.
        grace: seconds that running requests have to end when the server is stopped.
        warm_up: run the default strategy once before requests are taken, so that the first is not slow.
        host, port: where to listen. `api_key`: required for any host but this machine.
    """

    engine: Any
    model: str
    reward: Any = None
    answer: str | Extract | None = None
    strategy: str | None = None
    n_particles: int = 16
    strength: float = 1.0
    step: Any = "\n"
    ess_threshold: float = 0.5
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    steps: tuple[str, ...] = ("\n", "\n\n")
    max_particles: int = 64
    max_tokens: int = 1024
    max_body_bytes: int = 1 << 20
    max_concurrent: int = 8
    max_queue: int = 64
    timeout: float = 300.0
    grace: float = 30.0
    warm_up: bool = True
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        names = ("n_particles", "max_particles", "max_tokens", "max_body_bytes", "max_concurrent")
        for name in names:
            _at_least(name, getattr(self, name), Integral, 1)
        _at_least("max_queue", self.max_queue, Integral, 0)
        _at_least("grace", self.grace, Real, 0)
        if not isinstance(self.timeout, Real) or not 0 < self.timeout < math.inf:
            raise InvalidArgument("timeout", self.timeout, "a number of seconds > 0")
        if not 0 <= self.port < 1 << 16:
            raise InvalidArgument("port", self.port, "an integer in [0, 65535]; 0 is a free one")
        if self.n_particles > self.max_particles:
            allowed = f"at most max_particles={self.max_particles}"
            raise InvalidArgument("n_particles", self.n_particles, allowed)
        if not 0 <= self.ess_threshold <= 1:
            raise InvalidArgument("ess_threshold", self.ess_threshold, "a number in [0, 1]")
        as_step(self.step)
        Sampling(self.temperature, self.top_k, self.top_p)
        if self.reward is not None:  # loaded once, if it is a name
            object.__setattr__(self, "reward", as_potential(self.reward))
        steered(self.reward, self.strength)
        if self.answer is not None:
            object.__setattr__(self, "answer", as_extractor(self.answer))
        if self.strategy is None:
            default = "sample" if self.reward is None else "particle-filter"
            object.__setattr__(self, "strategy", default)
        find(str(self.strategy), self.reward, self.answer)
        check_exposure(self.host, self.api_key)

    @property
    def strategies(self) -> list[str]:
        """Names of the strategies that this server can run."""
        return [
            name for name, known in STRATEGIES.items() if not known.lacks(self.reward, self.answer)
        ]


def _at_least(name: str, value: Any, kind: Any, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, kind) or not least <= value < math.inf:
        what = "an integer" if kind is Integral else "a number"
        raise InvalidArgument(name, value, f"{what} >= {least}")
