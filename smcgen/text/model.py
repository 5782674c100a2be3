"""Text as a state-space model: a step is a line, a paragraph, k tokens; the state is the text so far.

    x_0 = (),    x_t ~ p(. | x_{t-1})  one step of the engine,    G_t = psi_t / psi_{t-1} * prod_tokens p phi / q

with `log psi_0 = 0` and `log psi_T = sum of the potentials at the end`, so that

    Z = E_p[ prod phi(x) psi_T(x) ],    pi(x) ∝ p(x) prod phi(x) psi_T(x)     whatever the twists and the proposal.

A finished text is absorbing: its potential is 1 from then on, and it is never generated again.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral
from typing import Any

import numpy as np
from jaxtyping import Int

from smcgen.core.cost import Cost, Meter
from smcgen.core.feynman_kac import FeynmanKac
from smcgen.errors import InvalidArgument
from smcgen.text import pinning
from smcgen.text.detokenize import decode
from smcgen.text.engines.base import Engine, Law
from smcgen.text.identity import identity
from smcgen.text.potentials.base import Potential, Twist
from smcgen.text.prompts import Prompt, encode_all, is_single
from smcgen.text.randomness import StepRandomness
from smcgen.text.sampling import Sampling
from smcgen.text.scoring import Scoring
from smcgen.text.state import ROW_ARRAYS, TextRecord, TextState
from smcgen.text.steps import Step, as_step
from smcgen.text.stops import StopStrings, Until, as_stops
from smcgen.text.texts import TEXT_ARRAYS, Finish, Texts


@dataclass(frozen=True)
class TextModel(FeynmanKac[TextState]):
    """A language model steered by a potential, as a Feynman-Kac model.

    Attributes:
        engine: what writes the texts.
        prompt: a prompt (string, chat messages, ids), or a list of prompts: then every array of a
            run has a leading problem axis, and resampling stays within each problem.
        potential: psi, or None for the base model itself.
        step_rule: when a step ends: a delimiter, k tokens (1: token level), a function, a `Step`.
        max_steps: most steps of a text, at the last of which it is cut off (`Finish.LENGTH`);
            None: as many as `max_tokens` allows.
        max_tokens: most tokens of a text, at the last of which it is cut off.
        sampling: the base law p.
        proposal: another law to draw from; the weights correct for it.
        stop: strings, any of which ends a text (`Finish.STOP`), in whatever tokens it comes; it stays in the text.
    """

    engine: Engine
    prompt: Any
    potential: Potential | None = None
    step_rule: Any = "\n"
    max_steps: int | None = None
    max_tokens: int = 1024
    sampling: Sampling = Sampling()
    proposal: Sampling | None = None
    stop: str | Sequence[str] = ()
    traceable = False

    def __post_init__(self) -> None:
        for name, value in {"max_steps": self.max_steps, "max_tokens": self.max_tokens}.items():
            if value is None and name == "max_steps":
                continue
            if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
                raise InvalidArgument(name, value, "an integer >= 1")
        as_step(self.step_rule)
        as_stops(self.stop)
        longest = max(len(p.ids) for p in self.prompts)
        if longest >= self.engine.max_length:
            raise InvalidArgument(
                "prompt",
                f"{longest} tokens",
                f"fewer than the engine's max_length, {self.engine.max_length}",
            )

    @cached_property
    def prompts(self) -> list[Prompt]:
        """The prompts as token ids."""
        return encode_all(self.engine.tokenizer, self.prompt)

    @property
    def num_problems(self) -> int | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """None for a single prompt."""
        return None if is_single(self.prompt) else len(self.prompts)

    @property
    def num_steps(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Calls of `step`, at most; a step writes at least one token."""
        return int(self.max_tokens if self.max_steps is None else self.max_steps)

    def split(self) -> "list[TextModel]":
        """One model per prompt, for `smcgen.smc_each`."""
        return [replace(self, prompt=self.prompts[b]) for b in range(len(self.prompts))]

    @cached_property
    def rule(self) -> Step:
        """When a step ends."""
        return as_step(self.step_rule)

    @cached_property
    def stops(self) -> StopStrings | None:
        """What finds the strings that end a text; None if there are none."""
        strings = as_stops(self.stop)
        return StopStrings(strings, self.engine.tokenizer) if strings else None

    @cached_property
    def _room(self) -> np.ndarray:
        """Tokens that the engine's context leaves for each prompt's texts."""
        return np.array([self.engine.max_length - len(p.ids) for p in self.prompts])

    def limits(self, rows: Int[np.ndarray, " m"], n: int) -> Int[np.ndarray, " m"]:
        """Most tokens of these rows' texts."""
        return np.minimum(self.max_tokens, self._room[rows // n])

    @cached_property
    def _law(self) -> Law:
        factors = self.potential.factors() if self.potential else ()
        return Law(self.sampling, factors, self.proposal)

    @cached_property
    def _twists(self) -> tuple[Twist, ...]:
        return self.potential.twists() if self.potential else ()

    def init(self, key: Any, n: int) -> tuple[TextState, Any]:
        rows = len(self.prompts) * n
        texts = Texts(
            self.prompts,
            n,
            ids=np.zeros((rows, 0), np.int32),
            lengths=np.zeros(rows, np.int32),
            step_ends=np.zeros((rows, 0), np.int32),
            finish=np.zeros(rows, np.int8),
            tokenizer=self.engine.tokenizer,
        )
        state = self._opened(texts, np.zeros(rows), np.zeros(rows), Meter(memory=True))
        return state, self._per_problem(np.zeros(rows))

    def _opened(
        self,
        texts: Texts,
        log_base: np.ndarray,
        log_psi: np.ndarray,
        meter: Meter,
        resume: bool = False,
    ) -> TextState:
        """A state with fresh sessions for these texts."""
        completions = [texts.tokens(r) for r in range(len(texts))] if resume else None
        session = self.engine.open(self.prompts, texts.n, self._law, meter, completions)
        opened = [w.open_twist(self.prompts, texts.n, texts.tokenizer, meter) for w in self._twists]
        empty = np.full((len(texts), 0), -1, np.int32)
        stop = np.zeros(len(texts), dtype=np.int64)
        return TextState(texts, log_base, log_psi, empty, stop, session, tuple(opened), meter)

    def step(self, key: Any, t: Any, state: TextState) -> tuple[TextState, Any]:
        return self._written(key, t, state, {})

    def init_pinned(self, key: Any, n: int, reference: TextRecord) -> tuple[TextState, Any]:
        """Empty texts: nothing to pin yet."""
        pinning.check_step(self.rule)
        return self.init(key, n)

    def step_pinned(
        self, key: Any, t: Any, state: TextState, reference: TextRecord
    ) -> tuple[TextState, Any]:
        """A step in which the first text of each problem writes what the reference wrote.

        Raises:
            InvalidArgument: this model cannot have written it.
        """
        given = pinning.tokens_of(self, state, reference)
        state, log_g = self._written(key, t, state, given)
        pinning.check(state, reference, list(given), np.ravel(log_g))
        return state, log_g

    def log_continue(self, t: Any, state: TextState, path: Sequence[TextRecord]) -> Any:
        """log of all that is left of a path, `prod_{s >= t} p phi psi_T / psi_{t-1}`, behind each text.

        -inf where the text and what is left of the path are not a text of this model.
        """
        return self._per_problem(pinning.log_continue(self, int(t), state, path))

    def _written(
        self, key: Any, t: Any, state: TextState, given: Mapping[int, Sequence[int]]
    ) -> tuple[TextState, Any]:
        texts = state.texts
        rows = np.flatnonzero(~texts.ended)
        limits = self.limits(rows, texts.n) - texts.lengths[rows]
        randomness = StepRandomness(key, texts.n)
        last = bool(t == self.num_steps)
        until = None if self.stops is None else Until(self.stops, state.stop[rows])
        asked = rows, self.rule, limits, randomness, last, given or None, until
        away = [w.elsewhere for w in self._twists]
        with Scoring(texts, rows, state.twists, away, bool(self._law.factors)) as scoring:
            tells = scoring.listens and getattr(self.engine, "tells", False)
            new = state.engine.extend(*asked, **({"ended": scoring.told} if tells else {}))
            texts = texts.extended(rows, new.tokens, new.lengths, new.finish)
            log_g, log_psi = np.zeros(len(texts)), state.log_psi.copy()
            log_g[rows] = new.log_base + new.log_factor - new.log_proposal
            alive = rows[(new.finish != Finish.DEAD) & (log_g[rows] > -np.inf)]
            if len(alive):
                log_psi[alive] = scoring.log_psi(texts, new, alive)
                log_g[alive] += log_psi[alive] - state.log_psi[alive]
        stop = state.stop.copy()
        stop[rows] = 0 if until is None else until.states
        texts = self._given_up(texts, log_g)
        log_base = state.log_base.copy()
        log_base[rows] += new.log_base
        ended = rows[texts.ended[rows]]
        for session in (state.engine, *state.twists):
            session.drop(ended)
        step = np.full((len(texts), new.tokens.shape[1]), -1, np.int32)
        step[rows] = new.tokens
        arrays = {"log_base": log_base, "log_psi": log_psi, "step": step, "stop": stop}
        state = replace(state, texts=texts, **arrays)
        return state, self._per_problem(log_g)

    def _given_up(self, texts: Texts, log_g: np.ndarray) -> Texts:
        """Running texts of weight zero end here, and so do all of a problem whose run has failed."""
        broken = np.isnan(log_g) | (log_g == np.inf)
        failed = np.repeat(broken.reshape(len(self.prompts), -1).any(1), texts.n)
        over = (failed | (log_g == -np.inf)) & ~texts.ended
        if not over.any():
            return texts
        return replace(texts, finish=np.where(over, np.int8(Finish.DEAD), texts.finish))

    def take(self, state: TextState, ancestors: Any) -> TextState:
        ancestors = np.asarray(ancestors)
        offsets = np.arange(len(self.prompts))[:, None] * state.texts.n
        flat = (ancestors.reshape(len(self.prompts), -1) + offsets).ravel()
        for session in (state.engine, *state.twists):
            session.take(flat)
        texts = state.texts.of_rows(flat, state.texts.prompts, state.texts.n)
        arrays = {k: getattr(state, k)[flat] for k in ROW_ARRAYS}
        return replace(state, texts=texts, **arrays)

    def done(self, state: TextState) -> Any:
        """Whether all texts of a problem have ended."""
        return self._per_problem(state.texts.ended).all(-1)

    def particles(self, state: TextState) -> Texts:
        """The texts."""
        return state.texts

    def record(self, state: TextState) -> TextRecord:
        """The latest step of every particle."""
        return state.record()

    def text(self, path: Sequence[TextRecord]) -> Any:
        """The text of a path (`Chains.paths[0][0]`, `SMCResult.path`); a list of them for several prompts."""
        texts = [
            decode(self.engine.tokenizer, ids) for ids in pinning.ids_of(path, len(self.prompts))
        ]
        return texts[0] if self.num_problems is None else texts

    def cost(self, state: TextState) -> Cost:
        """Tokens, reward calls and seconds so far."""
        return state.meter.read()

    def describe(self, state: TextState, problem: int, particle: int) -> str:
        """A particle's prompt and text."""
        row = problem * state.texts.n + particle
        text, finish = state.texts.text(row), Finish(int(state.texts.finish[row])).name
        return f"{text[-300:]!r} ({finish.lower()}) after the prompt {self.prompts[problem].text[:120]!r}"

    def close(self, state: TextState) -> None:
        """Free the engine's and the rewards' sessions."""
        for session in (state.engine, *state.twists):
            session.close()

    def fingerprint(self) -> str:
        """Engine, prompts and settings."""
        engine = [self.engine.name, self.engine.max_length, sorted(self.engine.eos_ids)]
        parts = [engine, self.prompts, self.potential, self.rule, self.num_steps, self.max_tokens]
        parts += [self.sampling, self.proposal, as_stops(self.stop)]
        return hashlib.sha256(identity(parts).encode()).hexdigest()

    def dump(self, state: TextState) -> Mapping[str, np.ndarray]:
        """The texts and what weights them; caches are rebuilt by `load`."""
        return state.dump()

    def load(self, key: Any, n: int, arrays: Mapping[str, np.ndarray]) -> TextState:
        """The state again: one prefill of the texts, no generation."""
        part = {k: arrays[k] for k in TEXT_ARRAYS}
        texts = Texts(self.prompts, n, **part, tokenizer=self.engine.tokenizer)
        meter = Meter(Cost.from_array(arrays["cost"]), memory=True)
        state = self._opened(texts, arrays["log_base"], arrays["log_psi"], meter, resume=True)
        return state.resumed(arrays)

    def _per_problem(self, values: np.ndarray) -> np.ndarray:
        """(rows,) as (n,) for a single prompt, else (problems, n)."""
        return values if self.num_problems is None else values.reshape(len(self.prompts), -1)
