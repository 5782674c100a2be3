"""Strategies by name: how a request is steered, and which of its texts is the answer.

Each is a function of a `Steering` and runs on `smcgen.steer`; they differ in the twist, in whether particles are
resampled, and in how texts are ranked. To add one, write such a function and give it a line in `STRATEGIES`.

    sample                 n texts of the model itself
    best-of-n              independent texts; the highest score
    weighted-best-of-n     independent texts; the answer with the most weight (sum of scores), its best text
    majority               independent texts, no reward; the most frequent answer
    particle-filter        particles resampled at each step; with an extractor the most probable answer's best text,
                           else the text with the highest score
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from smcgen.errors import InvalidArgument, UnknownName
from smcgen.serve.steering import Callback, Steering
from smcgen.text.answers import AnswerPosterior
from smcgen.text.potentials.algebra import as_potential
from smcgen.text.potentials.tilt import Tilt
from smcgen.text.result import SteerResult
from smcgen.text.rewards.base import Reward
from smcgen.text.steps import Step

_WATCHED = Step(
    tokens=32
)  # where no reward asks for steps: how often a run can be watched and stopped


class Chosen(NamedTuple):
    """What a strategy did.

    Attributes:
        result: the run.
        rows: its texts, the answer first, then what comes next best.
        answers: posterior over answers, if there is an extractor.
    """

    result: SteerResult
    rows: Sequence[int]
    answers: AnswerPosterior | None = None


@dataclass(frozen=True)
class Strategy:
    """A way to steer a request.

    Attributes:
        run: does it.
        uses: fields of a request that mean something to it; others are refused, not ignored.
        needs_reward, needs_answer: what the server must have been started with.
    """

    run: Callable[[Steering, Callback], Chosen]
    uses: frozenset[str] = frozenset()
    needs_reward: bool = False
    needs_answer: bool = False

    def lacks(self, reward: Any, answer: Any) -> str:
        """What a server with this reward and extractor lacks for it; empty if nothing."""
        if self.needs_reward and reward is None:
            return "reward"
        return "answer" if self.needs_answer and answer is None else ""


def sample(steering: Steering, callback: Callback) -> Chosen:
    """The model itself: each text is a draw of its own."""
    result = steering.run(callback, reward=None, strength=1.0, step=_WATCHED, ess_threshold=0.0)
    return Chosen(result, range(len(result.texts)), _answers(steering, result))


def best_of_n(steering: Steering, callback: Callback) -> Chosen:
    """Independent texts, by score."""
    result = _independent(steering, callback)
    return Chosen(result, by_score(result), _answers(steering, result))


def weighted_best_of_n(steering: Steering, callback: Callback) -> Chosen:
    """Independent texts, by the weight of their answers, then by score."""
    result = _independent(steering, callback)
    return Chosen(result, by_answer(result), _answers(steering, result))


def majority(steering: Steering, callback: Callback) -> Chosen:
    """Texts of the model itself, by the votes for their answers."""
    result = steering.run(callback, reward=None, strength=1.0, step=_WATCHED, ess_threshold=0.0)
    return Chosen(result, by_answer(result), _answers(steering, result))


def particle_filter(steering: Steering, callback: Callback) -> Chosen:
    """Particles, resampled as they go."""
    result = steering.run(callback)
    rows = by_score(result) if steering.extract is None else by_answer(result)
    return Chosen(result, rows, _answers(steering, result))


def by_score(result: SteerResult) -> list[int]:
    """Rows from the best on, as `SteerResult.best` ranks: possible, ended by itself, score, weight."""
    log_psi = np.asarray(result.history[-1].log_psi, np.float64)
    possible, ended = result.weights > 0, result.population.whole
    order = np.lexsort([-result.weights, -log_psi, ~ended, ~possible])
    return order.tolist()


def by_answer(result: SteerResult) -> list[int]:
    """Rows by the probability of their answers, then as `by_score`; those without an answer last."""
    assert result.extract is not None
    posterior = result.answers()
    worth = {
        row: posterior.get(str(result.extract(text)), -1.0) for row, text in enumerate(result.texts)
    }
    return sorted(by_score(result), key=lambda row: -worth[row])  # stable


def _independent(steering: Steering, callback: Callback) -> SteerResult:
    """No guidance and no resampling: a product of potentials has no twist of its own to switch off."""
    alone = isinstance(as_potential(steering.reward), Reward | Tilt)
    twist = {"twist": "none"} if alone else {}
    return steering.run(callback, ess_threshold=0.0, **twist)


def _answers(steering: Steering, result: SteerResult) -> AnswerPosterior | None:
    return None if steering.extract is None else result.answers()


_SIZE = frozenset({"n_particles", "budget"})
_SCORED = _SIZE | {"strength", "step"}

STRATEGIES: dict[str, Strategy] = {
    "sample": Strategy(sample),
    "best-of-n": Strategy(best_of_n, _SCORED, needs_reward=True),
    "weighted-best-of-n": Strategy(
        weighted_best_of_n, _SCORED, needs_reward=True, needs_answer=True
    ),
    "majority": Strategy(majority, _SIZE, needs_answer=True),
    "particle-filter": Strategy(particle_filter, _SCORED | {"ess_threshold"}, needs_reward=True),
}


def find(name: str, reward: Any, answer: Any) -> Strategy:
    """A strategy by name.

    Raises:
        UnknownName: there is none; the message lists what there is.
        InvalidArgument: the server was started without what it needs.
    """
    if name not in STRATEGIES:
        raise UnknownName("strategy", name, STRATEGIES)
    lacking = STRATEGIES[name].lacks(reward, answer)
    if lacking:
        usable = [repr(k) for k, known in STRATEGIES.items() if not known.lacks(reward, answer)]
        allowed = f"one of {', '.join(usable)} on a server without --{lacking}"
        raise InvalidArgument("strategy", name, allowed)
    return STRATEGIES[name]
