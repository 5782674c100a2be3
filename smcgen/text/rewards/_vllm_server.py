"""A vLLM engine that scores texts for any number of threads, which share its batches.

Whoever calls queues up; the thread that gets the engine takes all that has queued, in one batch, and the
others find their answers there. So problems that run in threads of their own fill each other's batches.
"""

import gc
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxtyping import Float

from smcgen.errors import EngineError, InvalidArgument, RewardError, SmcgenError
from smcgen.text.engines._vllm_env import in_process
from smcgen.text.engines._vllm_refused import check_known, named, reason
from smcgen.text.rewards._vllm_heads import Kind, ask

if TYPE_CHECKING:
    import torch

_CPU = {"dtype": "float32", "enforce_eager": True, "block_size": 32}
_CACHE_BYTES = {True: 2**30, False: 2**32}  # KV cache on a CPU, or not


@dataclass(eq=False)
class _Job:
    """What one caller asks."""

    ids: Sequence[Sequence[int]]
    split: Sequence[int | None]
    words: tuple[int, int] | None
    heads: "list[Float[torch.Tensor, ' outputs']]" = field(default_factory=list)
    tokens: int = 0
    error: BaseException | None = None
    done: bool = False


class Server:
    """An engine and those who wait for it.

    Args:
        llm: a `vllm.LLM`.
        kind: how it is asked.
        owned: shut it down on `close`.
    """

    def __init__(self, llm: Any, kind: Kind, owned: bool):
        from smcgen.text.engines._vllm_shared import share
        from smcgen.text.engines._vllm_watched import watched

        share()
        self._llm: Any = watched(llm)
        self._kind: Kind = kind
        self._owned = owned
        self._engine = threading.Lock()  # held by the thread that runs the engine
        self._mutex = threading.Lock()
        self._queue: list[_Job] = []
        self._dead: BaseException | None = None
        self.batches = 0  # that the engine has been given
        # a token to generate must fit as well
        self.longest = int(llm.model_config.max_model_len) - (kind == "words")

    def __call__(
        self,
        ids: Sequence[Sequence[int]],
        split: Sequence[int | None] | None = None,
        words: tuple[int, int] | None = None,
    ) -> "tuple[list[Float[torch.Tensor, ' outputs']], int]":
        """What the head says at the end of each text, and the tokens computed for that; blocks.

        Raises:
            RewardError: a text that is too long.
            EngineError: the engine died, now or before, or was closed.
        """
        longest = max(map(len, ids), default=0)
        if longest > self.longest:
            raise RewardError(
                f"a text of {longest} tokens is longer than the {self.longest} that the reward's "
                "engine takes: raise max_model_len, or kv_cache_memory_bytes, which limits it"
            )
        job = _Job(ids, [None] * len(ids) if split is None else split, words)
        with self._mutex:
            self._queue.append(job)
        with self._engine:
            if not job.done:  # else the thread before this one has done it
                with self._mutex:
                    jobs, self._queue = self._queue, []
                self._serve(jobs, job)
        if job.error is not None:
            raise EngineError(
                f"the reward's vLLM engine is gone ({type(job.error).__name__}: {job.error}); make "
                "the reward again"
            ) from job.error
        return job.heads, job.tokens

    def _serve(self, jobs: list[_Job], mine: _Job) -> None:
        try:
            for words in dict.fromkeys(job.words for job in jobs):  # of one engine, all the same
                if self._dead is not None:
                    break
                self._batch([job for job in jobs if job.words == words], words)
        except Exception as error:
            # its requests and cache may be in any state
            self._dead = error
        except BaseException:
            with self._mutex:  # the others' answers are still wanted
                self._queue = [j for j in jobs if not (j.done or j is mine)] + self._queue
            self._recover()
            raise
        for job in jobs:
            if not job.done:
                job.error, job.done = self._dead, True

    def _batch(self, jobs: list[_Job], words: tuple[int, int] | None) -> None:
        ids = [i for job in jobs for i in job.ids]
        split = [s for job in jobs for s in job.split]
        self.batches += 1
        heads, tokens = ask(self._llm, self._kind, ids, split, words)
        start = 0
        for job in jobs:
            end = start + len(job.ids)
            job.heads, job.tokens = heads[start:end], sum(tokens[start:end])
            job.done, start = True, end

    def _recover(self) -> None:
        """After Ctrl-C: forget what was asked, and what the cache claims to hold of it."""
        try:
            engine = self._llm.llm_engine
            engine.abort_request(list(engine.output_processor.request_states), internal=True)
            here = hasattr(engine, "model_executor")  # an engine elsewhere has not been interrupted
            if here and not self._llm.reset_prefix_cache():
                raise RuntimeError("interrupted, and its cache cannot be cleared")
        except BaseException as error:  # Ctrl-C again, too: the first one is raised in any case
            self._dead = error

    def close(self) -> None:
        """Wait for the work at hand, then shut the engine down if it is ours."""
        with self._engine:
            if self._llm is None:
                return
            if self._owned:
                self._llm.llm_engine.engine_core.shutdown()
            self._llm, self._dead = None, RuntimeError("it was closed")
            gc.collect()


def build(source: str | Path, options: dict[str, Any], engine_args: dict[str, Any]) -> Any:
    """A `vllm.LLM` in this process.

    Args:
        source: a folder, or a name on the Hugging Face hub.
        options: what the head needs.
        engine_args: the user's, which win.

    Raises:
        InvalidArgument: vLLM does not know the model or an argument; the message has its reason.
        EngineError: it does not start.
    """
    with in_process():
        from vllm import LLM
        from vllm.platforms import current_platform

        from smcgen.text.engines._vllm_shared import TURNS, share

        check_known(engine_args)
        share()
        on_cpu = current_platform.is_cpu()
        defaults = {
            **(_CPU if on_cpu else _room()),
            "kv_cache_memory_bytes": _CACHE_BYTES[on_cpu],
            "max_model_len": -1,  # the model's own, or what fits the cache
            "use_tqdm_on_load": False,
        }
        try:
            with TURNS:
                return LLM(str(source), **{**defaults, **options, **engine_args})
        except SmcgenError:
            raise
        except (TypeError, ValueError, OSError) as error:
            allowed = f"a model, with arguments, that vLLM can serve ({reason(error)})"
            unfit = InvalidArgument("model", str(source), allowed)
            raise named(error, engine_args) or unfit from error
        except Exception as error:
            raise EngineError(f"vLLM does not start with {source}: {error}") from error


def _room() -> dict[str, Any]:
    """What is free on the GPU: vLLM wants nine tenths of it, though the cache has a size of its own."""
    import torch

    if not torch.cuda.is_available():
        return {}
    free, total = torch.cuda.mem_get_info()
    return {"gpu_memory_utilization": round(0.98 * free / total, 3)}
