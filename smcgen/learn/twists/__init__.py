"""Twists; see `smcgen.learn.twists.base` for which to use when."""

from smcgen.learn.twists.base import Learnable as Learnable
from smcgen.learn.twists.base import Tilting as Tilting
from smcgen.learn.twists.base import Twist as Twist
from smcgen.learn.twists.network import Network as Network
from smcgen.learn.twists.quadratic import Quadratic as Quadratic
from smcgen.learn.twists.table import Table as Table

__all__ = ["Learnable", "Network", "Quadratic", "Table", "Tilting", "Twist"]
