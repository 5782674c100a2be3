"""The environment in which vLLM's engine is built inside this process."""

import importlib.util
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from smcgen.errors import MissingExtra
from smcgen.text.engines._vllm_traces import kept_generators, quiet

_NAME = "VLLM_ENABLE_V1_MULTIPROCESSING"


@contextmanager
def in_process() -> Iterator[None]:
    """Engines built here run in this process; vLLM reads that from the environment alone.

    The first engine of a process has vLLM keep what it read: that is forgotten on both sides, so that engines built
    before, here and after are each what their environment says. The user's random numbers go on as if nothing had
    been built.

    Raises:
        MissingExtra: without vLLM.
    """
    if importlib.util.find_spec("vllm") is None:
        raise MissingExtra("a vLLM engine", "vllm", "vllm")
    import torch

    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")  # read when vLLM is first imported
    _quick_kernels()
    before = os.environ.get(_NAME)
    os.environ[_NAME] = "0"
    _read_again()
    try:
        with kept_generators(), quiet():
            yield
    finally:
        if before is None:
            del os.environ[_NAME]
        else:
            os.environ[_NAME] = before
        if torch.cuda.is_initialized():
            # vLLM finds that out for itself when it starts a process, but reads what it has kept
            os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
        _read_again()


def _read_again() -> None:
    """vLLM's copy of the environment, if it keeps one, is of now."""
    from vllm import envs

    if envs._is_envs_cache_enabled():
        envs.disable_envs_cache()
        envs.enable_envs_cache()


def _quick_kernels() -> None:
    """vLLM's look through the attributes of every module there is: once a process, and past llvmlite.

    Every engine on a CPU without Triton has vLLM replace its kernels again, wherever they are held; what is
    replaced already stays as it is. And one of llvmlite's objects (numba loads it, so ArviZ may) answers `vars`
    with something that is not a mapping.
    """
    from vllm.triton_utils import dispatcher

    if hasattr(dispatcher, "smcgen_register"):
        return
    register: Any = dispatcher.register_kernels

    def once(overrides: Mapping[str, Any]) -> None:
        known: Any = dispatcher._registry
        new = {k: f for k, f in overrides.items() if k not in known or known[k][1] is not f}
        if new:
            with warnings.catch_warnings():  # some of what it looks at is deprecated, and says so
                warnings.simplefilter("ignore", FutureWarning)
                register(new)

    scanned: Any = dispatcher
    scanned.smcgen_register = register
    scanned.register_kernels = once
    # not a `def`: called for each attribute, hundreds of thousands, and the tests check every call of one
    scanned.vars = lambda value: found if hasattr(found := vars(value), "get") else {}
