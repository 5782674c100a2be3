"""`LLaDA2Pipeline`: masked text diffusion in blocks, each of which sees what is written so far and nothing after it.

The blocks, the number of tokens that a step reveals, the order by confidence and the attention mask are the pipeline's;
at temperature 0 its texts are ours. Not taken over is what makes its number of steps depend on the text: revealing
more where the network is sure (`threshold`), and writing again what was written (`editing_threshold`). Confidence is
that of a token's law, not of the token drawn, which leaves a density; and the mask itself is never written.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from smcgen.diffusion.backends.torch import Torch
from smcgen.diffusion.kernels.masked import Masked
from smcgen.diffusion.masked.orders import Order
from smcgen.diffusion.rewards.microbatch import in_parts
from smcgen.errors import InvalidArgument
from smcgen.text.sampling import Sampling


def prepare(
    pipe: Any,
    prompts: list[str] | None,
    *,
    gen_length: int = 2048,
    block_length: int | None = None,
    num_inference_steps: int = 32,
    temperature: float = 1.0,
    top_p: float | None = None,
    top_k: int | None = None,
    order: str | Order = "confidence",
    use_chat_template: bool = True,
    add_generation_prompt: bool = True,
    mask_token_id: int | None = None,
    eos_token_id: int | None = None,
) -> Callable[[bool, int | None], Masked]:
    """Prompts as token ids, a canvas of masks behind them; options as those of the pipeline's own call.

    Args:
        temperature: the pipeline's own default is 0, at which there is nothing to steer.
        order: which positions a step reveals, see `Masked`.

    Returns:
        A function of whether there is one prompt without a problem axis, and of the rows of one call of the network.
    """
    if prompts is None:
        raise InvalidArgument("prompt", None, "a string or a list of strings")
    length = pipe.scheduler.config.block_length if block_length is None else block_length
    sizes = {"gen_length": gen_length, "block_length": length, "steps": num_inference_steps}
    for name, value in sizes.items():
        if isinstance(value, bool) or value < 1:
            raise InvalidArgument(name, value, "an integer >= 1")
    mask = pipe.mask_token_id if mask_token_id is None else mask_token_id
    if mask is None:
        raise InvalidArgument("mask_token_id", None, "an id: the tokenizer has no mask token")
    eos = pipe.eos_token_id if eos_token_id is None else eos_token_id
    given, real = _encoded(pipe, prompts, use_chat_template, add_generation_prompt)
    start = given.shape[1]
    end = start + gen_length
    total = -(-end // length) * length
    beyond = next(i for i in (eos, 0, 1) if i is not None and i != mask)  # never read: unattended
    canvas = np.full((len(prompts), total), beyond)
    canvas[:, :start], canvas[:, start:end] = given, mask
    attended = np.zeros((len(prompts), total), np.int64)
    attended[:, :start], attended[:, start:end] = real, 1
    device = pipe._execution_device
    attended = torch.from_numpy(attended).to(device)
    steps = min(num_inference_steps, gen_length)
    first, blocks = start // length, -(-end // length) - start // length

    def decode(ids: torch.Tensor) -> Any:
        written = ids[:, start:end].tolist()
        if pipe.tokenizer is None:
            return ids[:, start:end]
        cut = [row[: row.index(eos)] if eos in row else row for row in written]
        return pipe.tokenizer.batch_decode(cut, skip_special_tokens=True)

    def build(single: bool, batch_size: int | None) -> Masked:
        def denoise(x: torch.Tensor, time: Any, problem: Any) -> torch.Tensor:
            block = blocks - int(np.ceil(float(time) * blocks - 1e-6))
            seen = (first + block + 1) * length
            own = attended[torch.from_numpy(np.asarray(problem, np.int64)).to(device), :seen]
            places = torch.arange(seen, device=device)

            def part(rows: slice) -> torch.Tensor:
                ids, where = x[rows, :seen], places.expand(rows.stop - rows.start, -1)
                logits = pipe.model(ids, attention_mask=own[rows], position_ids=where).logits
                return logits[:, -length:].clone()  # a view would keep those of all that is seen

            return torch.cat(in_parts(part, len(x), batch_size))

        return Masked(
            denoise,
            canvas[0] if single else canvas,
            int(mask),
            steps,
            schedule=_scheduled(length, steps),
            order=order,
            sampling=Sampling(temperature, top_k, 1.0 if top_p is None else top_p),
            block_length=length,
            aligned=True,
            conditional=True,
            decoder=decode,
            backend=Torch(device),
            prompts=tuple(prompts),
            ahead=beyond,  # what comes after is not known yet: for a look ahead the text ends here
        )

    return build


def _scheduled(length: int, steps: int) -> Callable[[np.ndarray], np.ndarray]:
    """Shares of a block that are masks: each step reveals `length // steps` tokens, the first ones one more."""
    each, more = divmod(length, steps)

    def share(u: np.ndarray) -> np.ndarray:
        step = np.round(u * steps)
        return 1 - (each * step + np.minimum(step, more)) / length

    return share


def _encoded(
    pipe: Any, prompts: list[str], chat: bool, add_generation_prompt: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Token ids of the prompts, filled up on the left, and which of them are real; (prompts, longest)."""
    if pipe.tokenizer is None:
        raise InvalidArgument("pipe", "one without a tokenizer", "one with a tokenizer")
    rows = []
    for prompt in prompts:
        ids, _ = pipe._prepare_input_ids(
            prompt=prompt,
            messages=None,
            input_ids=None,
            use_chat_template=chat,
            add_generation_prompt=add_generation_prompt,
            chat_template_kwargs=None,
        )
        rows.append(ids[0].tolist())
    longest = max(map(len, rows))
    fill = pipe.tokenizer.pad_token_id or 0
    given = np.array([[fill] * (longest - len(r)) + r for r in rows], np.int64)
    real = np.array([[0] * (longest - len(r)) + [1] * len(r) for r in rows], np.int64)
    return given.reshape(len(rows), longest), real.reshape(len(rows), longest)
