"""Any algorithm of blackjax or NumPyro as a kernel, in coordinates in which the particles are white."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax

from smcgen.core._types import RandomKey
from smcgen.errors import InvalidArgument
from smcgen.samplers.base import Moved, Path, Scalar
from smcgen.samplers.kernels.gradient import Gradient
from smcgen.samplers.kernels.tuning import static


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Algorithm(Gradient):
    """An algorithm of blackjax or NumPyro that leaves its density invariant.

    Args:
        build: `build(log_density, step_size)` gives a `blackjax.base.SamplingAlgorithm`, whose state has a `position`,
            or a `numpyro.infer.mcmc.MCMCKernel` of the potential `-log_density` that adapts nothing itself.
        acceptance: the step size is adapted towards this mean acceptance, if the algorithm tells one; None: it stays.
        step_size: where it begins, in units of the population's standard deviations.

    Example:
        Algorithm(build=lambda log_density, step: blackjax.barker(log_density, step), acceptance=0.4)

        def numpyros(log_density, step):
            return numpyro.infer.NUTS(
                potential_fn=lambda z: -log_density(z),
                step_size=step,
                adapt_step_size=False,
                adapt_mass_matrix=False,
            )

        Algorithm(build=numpyros, acceptance=0.8)
    """

    build: Any = static(None)
    moves: int = static(10)

    def check(self, path: Path, x: Any) -> None:
        """x must be real, the path differentiable, `build` a function."""
        super().check(path, x)
        if not callable(self.build):
            raise InvalidArgument(
                "build", self.build, "a function of a log-density and a step size"
            )

    def default_step_size(self, d: int) -> float:
        """`d^(-1/4)`."""
        return 1.0 / d**0.25

    def start(self, z: Any, log_density: Callable[[Any], Scalar]) -> Any:
        """The algorithm's state at z."""
        return self._built(log_density, 1.0).init(z)

    def move(
        self, key: RandomKey, chain: Any, log_density: Callable[[Any], Scalar], step_size: Scalar
    ) -> tuple[Any, Moved]:
        """One step; how many evaluations it takes only the algorithm knows, and one is counted."""
        chain, info = self._built(log_density, step_size).step(key, chain)
        return chain, Moved(getattr(info, "acceptance_rate", 1.0), 1.0)

    def _built(self, log_density: Callable[[Any], Scalar], step_size: Any) -> Any:
        built = self.build(log_density, step_size)
        return _NumPyro(built) if hasattr(built, "sample_field") else built


class _NumPyro(NamedTuple):
    """A kernel of NumPyro with the two functions of blackjax's."""

    kernel: Any

    def init(self, z: Any) -> "_At":
        return _At(z)

    def step(self, key: RandomKey, chain: "_At") -> tuple["_At", "_Told"]:
        """Begin anew where the chain is, since a kernel knows its step size from there, and move once."""
        begun, moved = jax.random.split(key)
        state = self.kernel.init(begun, 0, chain.position, (), {})
        state = self.kernel.sample(state._replace(rng_key=moved), (), {})
        told = _Told(getattr(state, "accept_prob", 1.0))
        return _At(getattr(state, self.kernel.sample_field)), told


class _At(NamedTuple):
    """Where a chain of NumPyro's is; the rest is evaluated anew at each move."""

    position: Any


class _Told(NamedTuple):
    """What is known of a move."""

    acceptance_rate: Any
