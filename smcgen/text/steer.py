"""Steer a language model in one call."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from smcgen.core.each import smc_each
from smcgen.core.result import SMCResult
from smcgen.core.smc import smc
from smcgen.errors import InvalidArgument
from smcgen.text.answers import Extract, as_extractor
from smcgen.text.engines.base import Engine
from smcgen.text.model import TextModel
from smcgen.text.potentials.algebra import as_potential
from smcgen.text.potentials.base import Potential
from smcgen.text.potentials.tilt import Scale, Tilt
from smcgen.text.result import by_problem
from smcgen.text.rewards.base import Reward
from smcgen.text.sampling import Sampling


def as_engine(model: Any) -> Engine:
    """An engine as it is; a `vllm.LLM` as `VLLM`, if it runs in this process, else as `VLLMRequests`; a model's
    name, path or object as a `Transformers` engine.
    """
    if isinstance(model, Engine):
        return model
    if hasattr(model, "llm_engine"):
        from smcgen.text.engines._llm import VLLMRequests
        from smcgen.text.engines.vllm import VLLM

        inside = hasattr(model.llm_engine.engine_core, "engine_core")
        return VLLM(model) if inside else VLLMRequests(model)
    from smcgen.text.engines.transformers import Transformers

    return Transformers(model)


def steered(
    reward: Any, strength: float = 1.0, twist: Any = None, scale: Scale | None = None
) -> Potential | None:
    """The potential that `steer` makes of its `reward`, `strength`, `twist` and `scale`."""
    if reward is None:
        for name, value in {"twist": twist, "scale": scale}.items():
            if value is not None:
                raise InvalidArgument(name, value, "None without a reward")
        if strength != 1:
            raise InvalidArgument("strength", strength, "1 without a reward")
        return None
    potential = as_potential(reward)
    if isinstance(potential, Reward):
        potential = Tilt(potential)
    if isinstance(potential, Tilt):
        changes = {"twist": twist, "scale": scale}
        potential = replace(potential, **{k: v for k, v in changes.items() if v is not None})
    else:
        for name, value in {"twist": twist, "scale": scale}.items():
            if value is not None:
                allowed = "None for a product of potentials; use Tilt(...) inside it"
                raise InvalidArgument(name, value, allowed)
    return potential if strength == 1 else potential**strength


def steer(
    prompt: Any,
    *,
    model: Any,
    reward: Any = None,
    n_particles: int = 16,
    strength: float = 1.0,
    twist: Any = None,
    scale: Scale | None = None,
    step: Any = "\n",
    max_steps: int | None = None,
    max_tokens: int = 1024,
    temperature: float = 1.0,
    top_p: float = 1.0,
    top_k: int | None = None,
    proposal: Sampling | None = None,
    stop: str | Sequence[str] = (),
    answer: str | Extract | None = None,
    key: Any = 0,
    resampling: Any = "systematic",
    ess_threshold: float = 0.5,
    progress: bool = False,
    callback: Any = None,
    checkpoint: str | Path | None = None,
    on_error: Literal["raise", "return"] = "raise",
) -> Any:
    """Sample texts from `pi(x) ∝ p(x) psi(x)` with a particle filter.

    Args:
        prompt: a string, chat messages or token ids; or a list of prompts, steered together.
        model: an engine (`Transformers`, `VLLM`, `Remote`, ...), a transformers causal language model by name,
            path or object, or a `vllm.LLM`.
        reward: what steers: a process reward model's name or path, a function of a list of texts, a
            `Reward`, or any potential (`Regex(...) * ProcessReward(...) ** 2`). None samples the model.
        n_particles: texts per prompt.
        strength: lambda; `psi = exp(lambda * r)`, or `s ** lambda` for a reward that is a probability s.
        twist, scale: how the reward guides before the end and how it becomes nats, see `Tilt`.
        step: when a step ends: a delimiter, a number of tokens, a function of the text, a `Step`.
        max_steps, max_tokens: a text is cut off there; `max_steps=None`: by `max_tokens` alone.
        temperature, top_p, top_k: the base law p; `proposal`: another law to draw from.
        stop: strings, any of which ends a text; they stay in the text, where the reward sees them.
        answer: how a text's answer is read: "number", "boxed", "line", a regex, or a function.
        key: a seed or JAX key.
        resampling, ess_threshold, progress, callback, checkpoint, on_error: see `smcgen.smc`. On an
            engine that serves many populations at once (vLLM, a remote one) several prompts run each at
            its own pace, see `smcgen.smc_each`: `checkpoint` is a folder then.

    Returns:
        A `SteerResult`; a list of them for a list of prompts.

    Raises:
        InvalidArgument: an argument is not allowed.
        SMCError, SMCInterrupted and whatever a reward raises: `error.result` has what there is, as
            `SteerResult`.

    Source: Puri et al. (2025) for language models, with the weights of Del Moral (2004) so that the
    target is as stated (their weights are another target).
    """
    extract = as_extractor(answer) if answer is not None else None
    engine = as_engine(model)
    text_model = TextModel(
        engine=engine,
        prompt=prompt,
        potential=steered(reward, strength, twist, scale),
        step_rule=step,
        max_steps=max_steps,
        max_tokens=max_tokens,
        sampling=Sampling(temperature, top_k, top_p),
        proposal=proposal,
        stop=stop,
    )
    single = text_model.num_problems is None

    options: dict[str, Any] = {
        "resampling": resampling,
        "ess_threshold": ess_threshold,
        "keep": "particles",
        "progress": progress,
        "checkpoint": checkpoint,
        "on_error": on_error,
    }

    def shown(run: Any) -> Any:
        if isinstance(run, list):
            return [None if r is None else by_problem(r, True, extract)[0] for r in run]
        results = by_problem(run, single, extract)
        return results[0] if single else results

    try:
        if single or not getattr(engine, "concurrent", False):
            return shown(smc(text_model, key, n_particles, callback=callback, **options))
        told = None if callback is None else lambda problem, progress: callback(progress)
        return shown(smc_each(text_model.split(), key, n_particles, callback=told, **options))
    except (Exception, KeyboardInterrupt) as error:
        so_far = getattr(error, "result", None)
        if isinstance(so_far, SMCResult | list):
            error.result = shown(so_far)  # pyright: ignore[reportAttributeAccessIssue]
        raise
