"""One call of a strategy: prompts, budget and ledger, and the populations that are run for it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Int

from smcgen.core.arguments import keys_of, settings_of
from smcgen.core.each import smc_each
from smcgen.core.problem import on_host
from smcgen.core.result import SMCResult
from smcgen.core.run import Watching, execute
from smcgen.core.smc import smc
from smcgen.core.status import SMCInterrupted, Status
from smcgen.scaling.budget import Budget, as_budget
from smcgen.scaling.draws import folded
from smcgen.scaling.ledger import Ledger
from smcgen.scaling.limits import LimitedEngine, limited
from smcgen.scaling.writing import Writing
from smcgen.text.answers import Extract
from smcgen.text.engines.base import Engine
from smcgen.text.model import TextModel
from smcgen.text.potentials.algebra import as_potential
from smcgen.text.potentials.base import Potential
from smcgen.text.prompts import Prompt, encode_all, is_single
from smcgen.text.result import SteerResult, by_problem
from smcgen.text.steer import as_engine


@dataclass(frozen=True)
class Job:
    """What a strategy is given. `write` runs a population; `runs` holds those of each prompt so far."""

    engine: Engine
    prompts: list[Prompt]
    single: bool
    reward: Potential | None
    budget: Budget
    keys: Any
    writing: Writing
    extract: Extract | None
    ledger: Ledger
    progress: bool = False
    callback: Callable[[Any], None] | None = None
    runs: list[list[SteerResult]] = field(default_factory=list)

    @classmethod
    def of(
        cls, engine: Any, prompts: Any, reward: Any, budget: Any, key: Any, writing: Writing, **rest
    ) -> "Job":
        """Arguments checked and put in their forms."""
        budget, engine, single = as_budget(budget), as_engine(engine), is_single(prompts)
        # copies, so that equal prompts are told apart
        encoded = [replace(p) for p in encode_all(engine.tokenizer, prompts)]
        keys = keys_of(key, None)[None] if single else keys_of(key, len(encoded))
        reward = None if reward is None else as_potential(reward)
        ledger, runs = Ledger(budget, encoded), [[] for _ in encoded]
        extract = writing.extract
        return cls(
            *(engine, encoded, single, reward, budget, keys, writing, extract, ledger),
            **rest,
            runs=runs,
        )

    @property
    def everyone(self) -> Int[np.ndarray, " p"]:
        """The numbers of all prompts."""
        return np.arange(len(self.prompts))

    @property
    def written(self) -> Int[np.ndarray, " p"]:
        """How many texts each prompt has."""
        return np.array([sum(len(run.texts) for run in runs) for runs in self.runs], np.int64)

    def keys_of(self, problems: Int[np.ndarray, " p"], purpose: int) -> Any:
        """A key for each of these prompts that no population uses."""
        return folded(self.keys[problems], 2**31 + purpose)

    def write(
        self,
        n: int,
        potential: Potential | None,
        problems: Int[np.ndarray, " p"] | None = None,
        *,
        model: Callable[..., TextModel] = TextModel,
        sampling: Any = None,
        step: Any = None,
        path: Any = None,
        **options: Any,
    ) -> Any:
        """Write n texts on each of these prompts (all of them if None), and append them to `runs`.

        A prompt's first population has its key, so that it is what `smcgen.steer` gives; later ones have keys of
        their own. With a `path` the first text of each prompt follows it (conditional SMC). `options` are those of
        `smcgen.smc`; what it returns is returned.
        """
        problems = self.everyone if problems is None else problems
        if not len(problems):
            return None
        rounds = np.array([len(self.runs[b]) for b in problems.tolist()])
        keys = self.keys[problems]
        if rounds.any():
            later = jax.vmap(jax.random.fold_in)(keys, rounds)
            keys = jax.numpy.where(rounds > 0, later, keys)
        described = model(
            engine=LimitedEngine(self.engine, self.ledger),
            prompt=[self.prompts[b] for b in problems.tolist()],
            potential=None if potential is None else limited(potential, self.ledger),
            step_rule=self.writing.step if step is None else step,
            max_steps=self.writing.max_steps if step is None else None,
            max_tokens=self.writing.max_tokens,
            stop=self.writing.stop,
            sampling=self.writing.sampling if sampling is None else sampling,
        )
        before = self.ledger.tokens[problems].copy(), self.ledger.calls[problems].copy()
        try:
            done = self._smc(described, keys, n, path, options)
        except BaseException as error:  # what was written is kept, and paid for
            self._keep(getattr(error, "result", None), problems, before)
            raise
        self._keep(done, problems, before)
        found = [run.status for b in problems.tolist() for run in self.runs[b][-1:]]
        unbegun = isinstance(done, list) and any(run is None for run in done)
        if Status.INTERRUPTED in found or unbegun:
            raise SMCInterrupted("interrupted; .result has what there is", None)
        return done

    def _smc(self, model: TextModel, keys: Any, n: int, path: Any, options: dict[str, Any]) -> Any:
        if path is not None:
            rest = {"ancestor_sampling": False} | options
            settings = settings_of(n, keep="particles", **rest)
            watching = Watching(self.progress, self.callback)
            return execute(model, keys, settings, "return", watching, path)
        options = {"keep": "particles", "on_error": "return", "progress": self.progress} | options
        if not getattr(self.engine, "concurrent", False):
            return smc(model, keys, n, callback=self.callback, **options)
        callback = self.callback
        told = None if callback is None else lambda problem, progress: callback(progress)
        return smc_each(model.split(), keys, n, callback=told, **options)

    def _keep(self, done: Any, problems: Int[np.ndarray, " p"], before: Sequence[Any]) -> None:
        """Results of a population (or of several that ran on their own), their cost divided among prompts."""
        now = self.ledger.tokens[problems], self.ledger.calls[problems]
        tokens, calls = (a - b for a, b in zip(now, before, strict=True))
        results: list[SteerResult | None] = [None] * len(problems)
        if isinstance(done, SMCResult):
            if done.cost is not None:
                shares = self.ledger.share(done.cost, problems, tokens, calls)
                pairs = zip(by_problem(on_host(done), False, self.extract), shares, strict=True)
                results = [replace(run, cost=cost) for run, cost in pairs]
        elif isinstance(done, list):
            for i, run in enumerate(done):
                if isinstance(run, SMCResult):
                    one = slice(i, i + 1)
                    own = by_problem(run, True, self.extract)[0]
                    if run.cost is not None:
                        (cost,) = self.ledger.share(
                            run.cost, problems[one], tokens[one], calls[one]
                        )
                        own = replace(own, cost=cost)
                    results[i] = own
        for b, result in zip(problems.tolist(), results, strict=True):
            if result is not None:
                self.runs[b].append(result)
