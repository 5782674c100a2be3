"""Set-up of every test run: no network, few threads, and shapes checked at run time."""

import os

# Before torch, JAX or transformers is imported anywhere. Models are loaded from disk or not at all.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("MPLBACKEND", "Agg")
if "PYTEST_XDIST_WORKER" in os.environ:
    # One thread for each worker: more would fight for the cores.
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NPROC"):
        os.environ[name] = "1"
    flags = os.environ.get("XLA_FLAGS", "")
    os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_multi_thread_eigen=false".strip()

from jaxtyping import install_import_hook

import tests._typechecker  # noqa: F401  (the hook finds it by name)

# Every signature in smcgen is checked at run time, shapes included. Before smcgen is imported.
install_import_hook("smcgen", "tests._typechecker.check")
