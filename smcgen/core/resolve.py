"""A model's methods, looked up and checked once when a run is built."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from smcgen.core.batches import Batches, in_batches
from smcgen.core.compile import jitted
from smcgen.core.feynman_kac import FeynmanKac, take_leading
from smcgen.errors import ModelError

_CHECKPOINTING = ("fingerprint", "dump", "load")
_PINNED = ("init_pinned", "step_pinned", "log_continue", "log_transition")
_OPTIONAL = ("done", "resamples", "record", "particles", "cost", "describe", "close", *_PINNED)


@dataclass(frozen=True)
class Resolved:
    """What a run calls; None is a capability that the model lacks."""

    num_steps: int
    traceable: bool
    num_problems: int | None
    init: Callable
    step: Callable
    take: Callable
    done: Callable | None
    resamples: Callable | None
    record: Callable | None
    particles: Callable | None
    cost: Callable | None
    describe: Callable | None
    close: Callable | None
    init_pinned: Callable | None
    step_pinned: Callable | None
    log_continue: Callable | None
    log_transition: Callable | None
    checkpointing: FeynmanKac | None

    def on_host(self) -> "Resolved":
        """For a model that is not traceable: ancestors are numpy, which torch and engines can index by."""
        return replace(self, take=lambda state, a: self.take(state, np.asarray(a)))

    def jitted(self, model: Any, batches: Batches | None) -> "Resolved":
        """For a traceable model that is driven from Python: each method compiled on its own."""
        call = jitted(_call, model, static=(0, 1))
        bound = lambda name: partial(call, batches, name)
        methods: dict[str, Callable] = {name: bound(name) for name in ("step", "take")}
        for name in ("step_pinned", "log_continue", "log_transition"):
            if getattr(self, name) is not None:
                methods[name] = bound(name)
        if self.init_pinned is not None:
            pinned = jitted(_init_pinned, model, static=(0, 2))
            methods["init_pinned"] = partial(pinned, batches)
        methods["init"] = partial(jitted(_init, model, static=(0, 2)), batches)
        return replace(self, **methods)


def _call(model: Any, batches: Batches | None, name: str, *arguments: Any) -> Any:
    return getattr(resolve(model, batches), name)(*arguments)


def _init(model: Any, batches: Batches | None, key: Any, n: int) -> Any:
    return in_batches(model, batches).init(key, n)


def _init_pinned(model: Any, batches: Batches | None, key: Any, n: int, reference: Any) -> Any:
    return in_batches(model, batches).init_pinned(key, n, reference)


def resolve(model: Any, batches: Batches | None = None) -> Resolved:
    """Check that `model` is a Feynman-Kac model and find its capabilities; weight it by batches.

    Raises:
        ModelError: it is not, or cannot be weighted so; the message names what is missing.
    """
    missing = [name for name in ("init", "step") if not callable(getattr(model, name, None))]
    if not isinstance(getattr(model, "num_steps", None), int | np.integer):
        missing.append("num_steps (an int)")
    if missing:
        raise ModelError(
            f"{type(model).__name__} is not a Feynman-Kac model: it lacks {', '.join(missing)}; "
            "see smcgen.FeynmanKac"
        )
    model = in_batches(model, batches)
    return Resolved(
        num_steps=int(model.num_steps),
        traceable=bool(getattr(model, "traceable", True)),
        num_problems=getattr(model, "num_problems", None),
        init=model.init,
        step=model.step,
        take=getattr(model, "take", take_leading),
        checkpointing=_checkpointing(model),
        **{name: getattr(model, name) if _overrides(model, name) else None for name in _OPTIONAL},
    )


def _overrides(model: Any, name: str) -> bool:
    """Whether the model's class overrides a method of `FeynmanKac`; data of that name does not."""
    own = getattr(type(model), name, None)
    if not isinstance(model, FeynmanKac) or not callable(own):
        return False
    given = next(k for k in reversed(type(model).__mro__) if name in vars(k))  # who first wrote it
    needed = getattr(own, "needs", None)
    return _overrides(model, needed) if needed else own is not vars(given)[name]


def _checkpointing(model: Any) -> FeynmanKac | None:
    lacking = [name for name in _CHECKPOINTING if not _overrides(model, name)]
    if lacking and len(lacking) < len(_CHECKPOINTING):
        has = [name for name in _CHECKPOINTING if name not in lacking]
        raise ModelError(
            f"{type(model).__name__} overrides {', '.join(has)} and not {', '.join(lacking)}; "
            "a checkpoint needs all three, or none for a state that is a pytree of arrays"
        )
    return None if lacking else model
