"""Drawing the next token of every particle in a batch, inside a step of the engine."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import reduce
from typing import Any

import numpy as np
import torch

from smcgen.text._torch.upload import upload
from smcgen.text.engines._law import draw_tokens


class Drawing:
    """Knows whose requests are whose, and asks each population for what its draws need.

    Attributes:
        where: the population and row that a request, by its name, belongs to.
        broken: populations whose factors or given tokens raised; it must not take the engine with it.
    """

    def __init__(self) -> None:
        self.where: dict[str, tuple[Any, int]] = {}
        self.broken: dict[Any, BaseException] = {}
        self._told: list[tuple[torch.Tensor, Any, list[tuple[Any, Any]]]] = []  # drawn in this step

    def whose(self, names: Iterable[str]) -> list[tuple[str, Any, int]]:
        """Requests with their populations and rows, but for those that nobody wants any more."""
        return [(name, *found) for name in names if (found := self.where.get(name)) is not None]

    def __call__(
        self, logits: torch.Tensor, places: Sequence[int], names: Sequence[str]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw a token for the rows `places` of the logits, which are these requests'.

        Populations of one law are drawn together. Returns the places and their tokens.
        """
        asked: dict[Any, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        for place, name in zip(places, names, strict=True):
            writer, row = self.where.get(name, (None, 0))
            if writer is not None:
                asked[writer][0].append(place)
                asked[writer][1].append(row)
        together: dict[Any, list[Any]] = defaultdict(list)
        for writer, (at, own) in asked.items():
            rows = np.array(own)
            try:
                given, uniforms = writer.given(rows), writer.uniforms(rows)
                phi = [factor.log_phi(rows) for factor in writer.factors]
            except Exception as error:  # it must not take the engine with it
                self.broken[writer] = error
                continue
            drawn = uniforms is not None, given is not None
            law = (writer.law.base, writer.law.proposal, bool(phi), *drawn)
            together[law].append((writer, at, rows, phi, uniforms, given))
        found = [f for law, parts in together.items() for f in self._each(logits, law, parts)]
        if not found:
            nothing = torch.zeros(0, dtype=torch.int64, device=logits.device)
            return nothing, nothing
        return torch.cat([f[0] for f in found]), torch.cat([f[1] for f in found])

    def _each(self, logits: torch.Tensor, law: Any, parts: list[Any]) -> list[tuple[Any, Any]]:
        """All at once; if that cannot be, one by one, to find out whose fault it is."""
        try:
            return [self._draw(logits, law, parts)]
        except Exception as error:
            if len(parts) == 1:
                self.broken[parts[0][0]] = error
                return []
        return [f for part in parts for f in self._each(logits, law, [part])]

    def _draw(self, logits: torch.Tensor, law: Any, parts: list[Any]) -> tuple[Any, Any]:
        base, proposal, has_factors, *_ = law
        at = [place for part in parts for place in part[1]]
        places = upload(torch.tensor(at), logits.device)
        x = logits if at == list(range(len(logits))) else logits[places]
        log_phi = None
        if has_factors:
            each = [reduce(torch.add, phi) for *_, phi, _, _ in parts]
            log_phi = each[0] if len(each) == 1 else torch.cat(each)  # which would copy it
        uniforms, given = (_joined([part[k] for part in parts], logits.device) for k in (4, 5))
        tokens, *logs = draw_tokens(x, base, proposal, log_phi, uniforms, given)
        told = torch.stack([tokens.double(), *logs]).to("cpu", non_blocking=True)
        ready = torch.accelerator.current_stream().record_event() if told.is_pinned() else None
        self._told.append((told, ready, [(writer, rows) for writer, _, rows, *_ in parts]))
        return places, tokens.clamp_min(0)

    def tell(self) -> None:
        """Let the populations know what was drawn in the step of the engine that is now over."""
        told, self._told = self._told, []
        for values, ready, parts in told:
            if ready is not None:  # a GPU was not waited for
                ready.synchronize()
            start = 0
            for writer, rows in parts:
                writer.put(rows, values[:, start : start + len(rows)].numpy())
                start += len(rows)


def _joined(values: list[Any], device: Any) -> Any:
    """Numbers of several populations on the device; None if they have none."""
    return None if values[0] is None else upload(np.concatenate(values), device)
