"""A session around another one, whose rows move as that one's do."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int


@dataclass
class Forwarding:
    """What sessions of engines and of rewards have in common, as the inner session does it."""

    session: Any

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        self.session.take(ancestors)

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        self.session.drop(rows)

    def close(self) -> None:
        self.session.close()
