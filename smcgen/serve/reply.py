"""What a client gets: OpenAI's objects, whole or in chunks, with an `smcgen` object beside `usage`."""

import math
import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import accumulate
from typing import Any, Literal

from smcgen.scaling.outcome import Outcome
from smcgen.serve.steering import Steering
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

    def whole(self, chosen: Outcome) -> dict[str, Any]:
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

    def chunks(self, chosen: Outcome, include_usage: bool) -> Iterator[dict[str, Any]]:
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

    def choices(self, chosen: Outcome) -> list[Choice]:
        """The texts that are returned: distinct ones first, again from the best if there are too few."""
        stop = self.steering.options["stop"]
        texts, rows = [before(t, stop) for t in chosen.texts], chosen.ranking.tolist()
        if self.steering.n_particles > self.steering.choices:
            first: dict[str, int] = {}
            for row in rows:
                first.setdefault(texts[row], row)
            again = [row for row in rows if first[texts[row]] != row]
            rows = [*first.values(), *again]
        found = []
        for row in rows[: self.steering.choices]:
            run, own = chosen.run_of(row)
            cut = run.finish[own] == Finish.LENGTH
            length = int(run.population.lengths[own])
            pieces = _cut(run.population.step_texts(own), len(texts[row]))
            found.append(Choice(pieces, length, "length" if cut else "stop"))
        return found

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


def report(steering: Steering, chosen: Outcome) -> dict[str, Any]:
    """What the run says of itself."""
    answers = chosen.answers
    said, best = chosen.answer, answers.best if answers else None
    if answers and best is not None and answers.get(said or "", 0.0) >= answers[best] * (1 - 1e-9):
        best = said  # of equally probable answers the one that is given
    posterior = {
        "answer": best,
        "answers": dict(list(answers.items())[:_ANSWERS]) if answers else None,
    }
    return so_far(steering, chosen) | plain(posterior)


def so_far(steering: Steering, chosen: Outcome) -> dict[str, Any]:
    """The same of a run that may not have ended; of several the last one speaks for evidence and ESS."""
    result = chosen.runs[-1]
    return plain(
        {
            "strategy": steering.strategy,
            "n_particles": steering.n_particles,
            "seed": steering.seed,
            "status": chosen.status.name,
            "steps": sum(int(run.smc.num_steps) for run in chosen.runs),
            "log_evidence": result.log_evidence,
            "log_evidence_stderr": result.log_evidence_stderr,
            "ess": result.ess,
            "cost": asdict(chosen.cost),
        }
    )


def plain(value: Any) -> Any:
    """JSON has no NaN and no infinity: they are null."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
