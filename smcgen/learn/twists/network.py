"""Twists that are neural networks: for weights, where no kernel can be tilted."""

from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import linen
from jaxtyping import Array, Float

from smcgen.core._types import LogG, PyTree, RandomKey
from smcgen.errors import ModelError
from smcgen.learn.twists.base import Learnable, Values


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Network(Learnable):
    """`log psi_t(x) = a_t + b_t f_{theta_t}((x - m_t) / s_t)`: a network with its own parameters at each time.

    States are rows of numbers, standardised before the network and after it; make one by `Network.flat`.

    Attributes:
        params: theta, a pytree whose leaves have time leading.
        centre, scale: m and s, shape (T + 1, d).
        level, spread: a and b, shape (T + 1,).
        module: f, a flax module from (n, d) to (n,) or (n, 1).
        optimiser, steps: how a fit at one time is made.
    """

    params: PyTree
    centre: Any
    scale: Any
    level: Any
    spread: Any
    module: linen.Module = field(metadata={"static": True})
    optimiser: optax.GradientTransformation = field(metadata={"static": True})
    steps: int = field(metadata={"static": True})

    @classmethod
    def flat(
        cls,
        module: linen.Module,
        num_steps: int,
        dim: int,
        key: RandomKey | int = 0,
        *,
        optimiser: optax.GradientTransformation | None = None,
        steps: int = 300,
    ) -> "Network":
        """`psi = 1` at all times 0..num_steps, with random parameters to begin a fit from.

        Raises:
            ModelError: the module does not give one number for each row.
        """
        key = jax.random.key(key) if isinstance(key, int) else key
        example, times = jnp.zeros((2, dim)), num_steps + 1
        params = module.init(key, example)
        check_output(module, params, example)
        everywhere = lambda x: jnp.broadcast_to(x, (times, *jnp.shape(x)))
        return cls(
            params=jax.tree.map(everywhere, params),
            centre=jnp.zeros((times, dim)),
            scale=jnp.ones((times, dim)),
            level=jnp.zeros(times),
            spread=jnp.zeros(times),
            module=module,
            optimiser=optax.adam(1e-2) if optimiser is None else optimiser,
            steps=steps,
        )

    def __call__(self, t: Any, x: Float[Array, "n *event"]) -> LogG:
        params = jax.tree.map(lambda p: p[t], self.params)
        z = (rows(x) - self.centre[t]) / self.scale[t]
        return self.level[t] + self.spread[t] * outputs(self.module, params, z)

    def fitted(
        self, t: Any, x: Float[Array, "n *event"], log_values: Values, weights: Values
    ) -> "Network":
        """Gradient steps on the weighted squared error, from the parameters there are."""
        x, weights = rows(x), weights / jnp.sum(weights)
        centre, level = weights @ x, weights @ log_values
        scale = jnp.sqrt(weights @ (x - centre) ** 2) + 1e-6
        spread = jnp.sqrt(weights @ (log_values - level) ** 2) + 1e-6
        z, target = (x - centre) / scale, (log_values - level) / spread

        def loss(params: PyTree) -> Array:
            return weights @ (outputs(self.module, params, z) - target) ** 2

        def step(carry: Any, _: None) -> tuple[Any, None]:
            params, state = carry
            updates, state = self.optimiser.update(jax.grad(loss)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        params = jax.tree.map(lambda p: p[t], self.params)
        begin = (params, self.optimiser.init(params))
        (params, _), _ = jax.lax.scan(step, begin, length=self.steps)
        return replace(
            self,
            params=jax.tree.map(lambda a, p: a.at[t].set(p), self.params, params),
            centre=self.centre.at[t].set(centre),
            scale=self.scale.at[t].set(scale),
            level=self.level.at[t].set(level),
            spread=self.spread.at[t].set(spread),
        )


def rows(x: Float[Array, "n *event"]) -> Float[Array, "n d"]:
    """States as rows of numbers."""
    return jnp.reshape(x, (x.shape[0], -1))


def outputs(module: linen.Module, params: PyTree, x: Float[Array, "n d"]) -> Float[Array, " n"]:
    """What the module says of each row."""
    return jnp.reshape(jnp.asarray(module.apply(params, x)), len(x))


def check_output(module: linen.Module, params: PyTree, example: Any) -> None:
    """Raise a `ModelError` unless the module gives one number for each row of the example."""
    n = jax.tree.leaves(example)[0].shape[0]
    out = jax.eval_shape(module.apply, params, example)
    if getattr(out, "shape", None) not in ((n,), (n, 1)):
        found = f"shape {out.shape}" if hasattr(out, "shape") else type(out).__name__
        raise ModelError(
            f"module {type(module).__name__} gives {found} for {n} rows; expected ({n},) or ({n}, 1): "
            "the log of what each is worth"
        )
