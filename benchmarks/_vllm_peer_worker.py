"""Runs the libraries that we are compared with, in a Python that has them: a task a line in, JSON a line out.

Nothing of smcgen is imported here. Started by `_vllm_peers.py`.
"""

import asyncio
import importlib
import json
import os
import sys
import time
from typing import Any

STEPS, STEP_TOKENS = 5, 20  # its_hub writes a step more than its `max_steps` says
REWARD = "Qwen/Qwen2.5-Math-PRM-7B"  # a name that reward_hub knows
ENGINES: dict[str, Any] = {}


class Even:
    """A process reward that costs nothing: every text is as good as another, and all are resampled."""

    async def ascore(self, prompt: Any, texts: list[str]) -> list[float]:
        """The same for all."""
        return [0.5] * len(texts)


def its_own(folder: str, options: dict[str, Any]) -> Any:
    """The process reward that its_hub takes from reward_hub: on vLLM with `options`, for models it knows by name."""
    local: Any = importlib.import_module("its_hub.core.reward_models.local_vllm_prm")
    if folder not in ENGINES:
        os.chdir(folder)  # where a folder has that name
        hub: Any = importlib.import_module("reward_hub.vllm.reward")
        make = hub.LLM
        hub.LLM = lambda **given: make(**given | options)
        last = local.AggregationMethod("last")
        ENGINES[folder] = local.LocalVllmProcessRewardModel(REWARD, "cpu", last)
    return ENGINES[folder]


def its_hub(task: dict[str, Any]) -> dict[str, Any]:
    """Its particle filter, asking a server; a character is a token."""
    filters: Any = importlib.import_module("its_hub.core.algorithms.particle_gibbs")
    served: Any = importlib.import_module("its_hub.core.lms.openai_lm")
    steps: Any = importlib.import_module("its_hub.core.lms.step_generation")
    lm = served.OpenAICompatibleLanguageModel(
        endpoint=task["url"] + "/v1",
        api_key="none",
        model_name="small",
        temperature=1.0,
        max_concurrency=task["at_once"],
    )
    generation = steps.StepGeneration(STEPS - 1, tokens_per_step=STEP_TOKENS, temperature=1.0)
    reward = its_own(task["reward"], task["options"]) if "reward" in task else Even()
    algorithm = filters.ParticleFiltering(generation, reward)
    began = time.perf_counter()
    found = asyncio.run(algorithm.ainfer(lm, task["prompt"], task["n"], return_response_only=False))
    took = time.perf_counter() - began
    return {"seconds": took, "tokens": sum(len(r["content"]) for r in found.responses)}


def genlm(task: dict[str, Any]) -> dict[str, Any]:
    """Its SMC, drawing from the model alone, on the backend that it takes by itself; all particles in one batch."""
    control: Any = importlib.import_module("genlm.control")
    key = f"{task['model']} {task['n']}"
    if key not in ENGINES:
        backend = {"backend": task["backend"]} if "backend" in task else {}
        on_gpu = importlib.import_module("torch").cuda.is_available()
        batch = {} if on_gpu else {"batch_size": task["n"]}
        ENGINES[key] = control.PromptedLLM.from_name(task["model"], **backend, **batch)
    llm = ENGINES[key]
    llm.prompt_ids = task["ids"]
    if hasattr(llm.model, "cache_kv"):
        llm.model.clear_cache()
        llm.model.cache_kv(task["ids"])

    async def run() -> Any:
        sampler = control.SMC(control.direct_token_sampler(llm))
        return await sampler(task["n"], ess_threshold=0.5, max_tokens=STEPS * STEP_TOKENS + 1)

    began = time.perf_counter()
    found = asyncio.run(run())
    took = time.perf_counter() - began
    tokens = sum(len(context) - 1 for context in found.contexts)
    return {"seconds": took, "tokens": tokens, "backend": type(llm.model).__name__}


def main() -> None:
    """Answer until the input ends; what the libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    importlib.import_module("torch").set_num_threads(1)
    for line in sys.stdin:
        task = json.loads(line)
        try:
            answer = {"its_hub": its_hub, "genlm": genlm}[task["what"]](task)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


if __name__ == "__main__":
    main()
