"""Drawing the next token of every particle in a batch, inside a step of the engine."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from smcgen.text._torch.recorded import Recorded
from smcgen.text._torch.upload import upload
from smcgen.text.engines._law import draw_tokens

Drawn = list[tuple[Int[np.ndarray, " m"], Tensor]]
"""Rows of a batch, in order, and the tokens drawn for them; the rows of one entry are of one law."""


class _Part(NamedTuple):
    """What one population's draws need."""

    writer: Any
    at: list[int]  # rows of the batch
    rows: np.ndarray  # rows of the population
    log_phi: Tensor | None
    uniforms: np.ndarray | None
    given: np.ndarray | None


class Drawing:
    """Knows whose requests are whose, and asks each population for what its draws need.

    Attributes:
        where: the population and row that a request, by its name, belongs to.
        broken: populations whose factors or given tokens raised; it must not take the engine with it.
    """

    def __init__(self) -> None:
        self.where: dict[str, tuple[Any, int]] = {}
        self.broken: dict[Any, BaseException] = {}
        self._told: list[tuple[Tensor, Any, list[tuple[Any, np.ndarray, Any]]]] = []
        self.forget()

    def whose(self, names: Iterable[str]) -> list[tuple[str, Any, int]]:
        """Requests with their populations and rows, but for those that nobody wants any more."""
        return [(name, *found) for name in names if (found := self.where.get(name)) is not None]

    def __call__(self, logits: Tensor, names: Sequence[str | None]) -> Drawn:
        """Draw tokens for the rows of a batch that are particles; `names` are their requests.

        Populations of one law are drawn together.
        """
        asked: dict[Any, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for place, name in enumerate(names):
            writer, row = self.where.get(name or "", (None, 0))
            if writer is not None and writer.scores is None:
                asked[writer][0].append(place)
                asked[writer][1].append(row)
        together: dict[Any, list[_Part]] = defaultdict(list)
        for writer, (at, own) in asked.items():
            rows = np.array(own)
            try:
                given, uniforms = writer.given(rows), writer.uniforms(rows)
                phi = [factor.log_phi(rows) for factor in writer.factors]
            except Exception as error:  # it must not take the engine with it
                self.broken[writer] = error
                continue
            log_phi = reduce(torch.add, phi) if phi else None
            drawn = uniforms is not None, given is not None
            law = writer.law.base, writer.law.proposal
            kind = law, log_phi is not None, *drawn
            together[kind].append(_Part(writer, at, rows, log_phi, uniforms, given))
        found: Drawn = []
        for (law, *_), parts in together.items():
            found += self._each(logits, law, parts, len(together) == 1)
        return found

    def _each(self, logits: Tensor, law: Any, parts: list[_Part], alone: bool) -> Drawn:
        """All at once; if that cannot be, one by one, to find out whose fault it is."""
        try:
            return [self._draw(logits, law, parts, alone)]
        except Exception as error:
            if len(parts) == 1:
                self.broken[parts[0].writer] = error
                return []
        return [f for part in parts for f in self._each(logits, law, [part], False)]

    def _draw(
        self, logits: Tensor, law: Any, parts: list[_Part], alone: bool
    ) -> tuple[np.ndarray, Tensor]:
        """One draw; `alone` says that no other one follows in this step of the engine."""
        at = np.array([place for part in parts for place in part.at])
        places, order = at, None
        if len(parts) > 1:  # in the order of the batch, so that a whole batch is taken as it lies
            order = np.argsort(at)
            places = at[order]
        x = logits if len(places) == len(logits) else logits[upload(places, logits.device)]
        log_phi = _joined([part.log_phi for part in parts], order, torch.cat)
        numbers = [[part.uniforms for part in parts], [part.given for part in parts]]
        uniforms, given = (_joined(values, order, np.concatenate) for values in numbers)
        told, tokens = self._recorded(law, x, log_phi, uniforms, given)
        if not alone:  # what is recorded may write over it
            told, tokens = told.clone(), tokens.clone()
        told = told.to("cpu", non_blocking=True)
        ready = torch.accelerator.current_stream().record_event() if told.is_pinned() else None
        start, ranks, whose = 0, None if order is None else np.argsort(order), []
        for part in parts:
            end = start + len(part.rows)
            mine = slice(start, end) if ranks is None else ranks[start:end]
            whose.append((part.writer, part.rows, mine))
            start = end
        self._told.append((told, ready, whose))
        return places, tokens

    def forget(self) -> None:
        """Free what draws hold on a device."""
        self._recorded = Recorded(_drawn, _sees_no_numbers)

    def tell(self) -> None:
        """Let the populations know what was drawn in the step of the engine that is now over."""
        told, self._told = self._told, []
        for values, ready, whose in told:
            if ready is not None:  # a GPU was not waited for
                ready.synchronize()
            drawn = values.numpy()
            for writer, rows, mine in whose:
                writer.put(rows, drawn[:, mine])


def _drawn(
    law: Any, logits: Tensor, log_phi: Tensor | None, uniforms: Tensor | None, given: Tensor | None
) -> tuple[Tensor, Tensor]:
    """What populations are told of their draws, one column a row, and the tokens as the engine takes them."""
    base, proposal = law
    tokens, *logs = draw_tokens(logits, base, proposal, log_phi, uniforms, given)
    return torch.stack([tokens.double(), *logs]), tokens.clamp_min(0)


def _sees_no_numbers(law: Any) -> bool:
    """Whether the draws' operations are the same for all logits: a nucleus may be looked for a second time."""
    return all(sampling is None or sampling.top_p == 1 for sampling in law)


def _joined(values: list[Any], order: Any, concatenate: Any) -> Any:
    """What several populations have, in the order of the batch; None if they have none."""
    if values[0] is None or len(values) == 1:  # to concatenate one would copy it
        return values[0]
    joined = concatenate(values)
    return joined[upload(order, joined.device) if isinstance(joined, Tensor) else order]
