"""An OpenAI-compatible server whose answers are steered: `smcgen serve MODEL --reward R`.

Any OpenAI client gets the strategy that the server was started with; a request may ask for another by extra fields
(`strategy`, `n_particles`, `budget`, ...). All of it runs on `smcgen.scaling`: read `strategies.py`, then `pool.py`.
"""

import importlib.util
from typing import TYPE_CHECKING

from smcgen._lazy import lazy
from smcgen.errors import MissingExtra

for _package in ("fastapi", "uvicorn", "prometheus_client"):
    if importlib.util.find_spec(_package) is None:
        raise MissingExtra("smcgen.serve", _package, "serve")

if TYPE_CHECKING:
    from smcgen.serve.app import create_app as create_app
    from smcgen.serve.config import Config as Config
    from smcgen.serve.server import run_server as run_server
    from smcgen.serve.strategies import STRATEGIES as STRATEGIES
    from smcgen.serve.strategies import Strategy as Strategy

_NAMES = {
    "STRATEGIES": "smcgen.serve.strategies",
    "Config": "smcgen.serve.config",
    "Strategy": "smcgen.serve.strategies",
    "create_app": "smcgen.serve.app",
    "run_server": "smcgen.serve.server",
}
__all__ = ["STRATEGIES", "Config", "Strategy", "create_app", "run_server"]
__getattr__, __dir__ = lazy(__name__, _NAMES)
