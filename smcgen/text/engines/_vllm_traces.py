"""What building a vLLM engine in this process would leave behind: reseeded generators, and warnings of our parts."""

import logging
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

# (logger, words): vLLM warns of our scheduler's class, and of the seed, which `kept_generators` makes untrue
_KNOWN = (
    ("vllm.config.scheduler", ("custom scheduler class", "ParticleScheduler")),
    ("vllm.engine.arg_utils", ("global random seed is set",)),
)


@contextmanager
def kept_generators() -> Iterator[None]:
    """The global generators of Python, NumPy and torch are afterwards what they were: vLLM seeds them all."""
    import torch

    python, numpy, host = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002 - the user's
    devices = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002
        torch.set_rng_state(host)
        if devices is not None:
            torch.cuda.set_rng_state_all(devices)
        elif torch.cuda.is_initialized():  # since then; torch would have begun with the host's seed
            torch.cuda.manual_seed_all(torch.initial_seed())


@contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings in `_KNOWN`; every other one is shown."""
    added = []
    for name, words in _KNOWN:
        keep = lambda record, words=words: not all(w in record.getMessage() for w in words)
        logging.getLogger(name).addFilter(keep)
        added.append((name, keep))
    try:
        yield
    finally:
        for name, keep in added:
            logging.getLogger(name).removeFilter(keep)
