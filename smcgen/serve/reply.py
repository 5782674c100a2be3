"""What a client gets: OpenAI's objects, whole or in chunks, with an `smcgen` object beside `usage`."""

import math
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any, Literal

from smcgen.serve.steering import Steering
from smcgen.serve.strategies import Chosen
from smcgen.text.result import SteerResult
from smcgen.text.stops import before
from smcgen.text.texts import Finish

_ANSWERS = 20  # of the posterior, the most likely ones

Kind = Literal["chat", "completion"]


@dataclass(frozen=True)
class Choice:
    """One returned text: whole, and in the pieces that it is streamed in."""

    pieces: list[str]
    tokens: int
    finish: str

    @property
    def text(self) -> str:
        """The whole."""
        return "".join(self.pieces)


@dataclass(frozen=True)
class Reply:
    """The response to one request."""

    kind: Kind
    model: str
    steering: Steering
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def name(self) -> str:
        """The response's id."""
        return ("chatcmpl-" if self.kind == "chat" else "cmpl-") + self.id

    def whole(self, chosen: Chosen) -> dict[str, Any]:
        """The response at once."""
        choices = self.choices(chosen)
        shown = []
        for index, choice in enumerate(choices):
            one = {"index": index, "finish_reason": choice.finish, "logprobs": None}
            if self.kind == "chat":
                one["message"] = {"role": "assistant", "content": choice.text}
            else:
                one["text"] = choice.text
            shown.append(one)
        kind = "chat.completion" if self.kind == "chat" else "text_completion"
        ends = {"usage": self.usage(choices), "smcgen": report(self.steering, chosen)}
        return self._object(kind, shown) | ends

    def chunks(self, chosen: Chosen, include_usage: bool) -> Iterator[dict[str, Any]]:
        """The response piece by piece; the last chunk with a choice has the `smcgen` object."""
        kind = "chat.completion.chunk" if self.kind == "chat" else "text_completion"
        usage = {"usage": None} if include_usage else {}
        choices = self.choices(chosen)
        for index, choice in enumerate(choices):
            deltas: list[dict[str, Any]] = [{"content": piece} for piece in choice.pieces]
            if self.kind == "chat":
                deltas = [{"role": "assistant", "content": ""}, *deltas]
            for delta in [*deltas, {}]:
                end = choice.finish if not delta else None
                one = {"index": index, "finish_reason": end, "logprobs": None}
                one |= (
                    {"delta": delta} if self.kind == "chat" else {"text": delta.get("content", "")}
                )
                chunk = self._object(kind, [one]) | usage
                if not delta and index == len(choices) - 1:
                    chunk["smcgen"] = report(self.steering, chosen)
                yield chunk
        if include_usage:
            yield self._object(kind, []) | {"usage": self.usage(choices)}

    def choices(self, chosen: Chosen) -> list[Choice]:
        """The texts that are returned: distinct ones first, again from the best if there are too few."""
        stop = self.steering.options["stop"]
        texts, rows = [before(t, stop) for t in chosen.result.texts], list(chosen.rows)
        if self.steering.n_particles > self.steering.choices:
            first = list({texts[row]: row for row in reversed(rows)}.values())[::-1]
            rows = first + [row for row in rows if row not in set(first)]
        population = chosen.result.population
        return [
            Choice(
                _cut(population.step_texts(row), len(texts[row])),
                int(population.lengths[row]),
                "length" if population.finish[row] == Finish.LENGTH else "stop",
            )
            for row in rows[: self.steering.choices]
        ]

    def usage(self, choices: list[Choice]) -> dict[str, int]:
        """Tokens of the prompt and of the returned texts; what was written in all is in `smcgen.cost`."""
        read, written = len(self.steering.prompt.ids), sum(choice.tokens for choice in choices)
        return {
            "prompt_tokens": read,
            "completion_tokens": written,
            "total_tokens": read + written,
        }

    def _object(self, kind: str, choices: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.name,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "choices": choices,
        }


def _cut(pieces: list[str], length: int) -> list[str]:
    """The first `length` characters, in the same pieces."""
    ends = list(accumulate(map(len, pieces)))
    kept = [
        piece[: length - (end - len(piece))]
        for piece, end in zip(pieces, ends, strict=True)
        if end - len(piece) < length
    ]
    return kept


def report(steering: Steering, chosen: Chosen) -> dict[str, Any]:
    """What the run says of itself."""
    answers = chosen.answers
    posterior = {
        "answer": answers.best if answers else None,
        "answers": dict(list(answers.items())[:_ANSWERS]) if answers else None,
    }
    return so_far(steering, chosen.result) | plain(posterior)


def so_far(steering: Steering, result: SteerResult) -> dict[str, Any]:
    """The same of a run that may not have ended."""
    return plain(
        {
            "strategy": steering.strategy,
            "n_particles": steering.n_particles,
            "seed": steering.seed,
            "status": result.status.name,
            "steps": int(result.smc.num_steps),
            "log_evidence": result.log_evidence,
            "log_evidence_stderr": result.log_evidence_stderr,
            "ess": result.ess,
            "cost": asdict(result.cost) if result.cost else None,
        }
    )


def plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are null."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
