"""Set-up of every test run: no network, one thread, and shapes checked at run time."""

import os

from tests import _xla

# Before torch, JAX or transformers is imported anywhere. Models are loaded from disk or not at all.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
# Most of the time of the tests is XLA compiling programs that run once: compile them quickly, not well. XLA's older
# emitters, one at a time, take a quarter of the time of the new ones (decisions.md). Examples run as users run them
# (tests/test_docs.py); tests marked `optimised` get the optimisations back.
os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "true")
_FLAGS = _xla.flags()
# The models of the tests are tiny: a second thread costs more than it brings, and on a busy
# machine, or beside another pytest-xdist worker, many times more.
for _name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ["NPROC"] = "1"  # how many threads XLA starts
    _FLAGS.append("--xla_cpu_multi_thread_eigen=false")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *_FLAGS]).strip()

import datetime
import functools
import gc
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import jaxtyping
import pytest

from tests import _typechecker, tiers

_typechecker.install()  # before smcgen is imported
# Each HTTP client reads the authorities' certificates, which takes 60 ms; the tests have hundreds of clients.
ssl.create_default_context = functools.cache(ssl.create_default_context)


@pytest.fixture(autouse=True)
def optimised_if_marked(request: pytest.FixtureRequest) -> Iterator[None]:
    """XLA as users have it, for tests whose programs run long."""
    if request.node.get_closest_marker("optimised") is None:
        yield
        return
    import jax

    jax.config.update("jax_disable_most_optimizations", False)
    yield
    jax.config.update("jax_disable_most_optimizations", True)


@pytest.fixture
def unchecked() -> Iterator[None]:
    """No run-time type checks in this test: bad arguments meet the library's own messages."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--costs", type=Path, help="append what each test costs to this file")


def pytest_configure(config: pytest.Config) -> None:
    if path := config.getoption("--costs"):
        config.pluginmanager.register(tiers.Meter(path.absolute()))


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    """What modules define while they are imported stays: no use in looking for garbage among it."""
    gc.disable()
    result = yield
    gc.enable()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> Iterator[None]:
    tiers.mark(items)  # before -m chooses
    yield
    tiers.dear_files_first(items)  # of those that it has chosen


def pytest_sessionstart(session: pytest.Session) -> None:
    """ArviZ notes once a day that it has warned; two workers that do so at once fail. Note it for them."""
    if hasattr(session.config, "workerinput"):
        return
    with suppress(ImportError, OSError):
        from platformdirs import user_cache_dir

        folder = Path(user_cache_dir("arviz", "arviz"))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "daily_warning").write_text(datetime.date.today().isoformat())
