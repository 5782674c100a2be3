"""Process reward models: a score at the end of every step, read as the text grows.

    r_t(x) = P(the solution is right so far | prompt, steps 1..t)

The reward model has a KV cache of its own, which moves with the particles: a step costs its own
tokens and nothing else, however long the text before it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Int

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument, MissingExtra
from smcgen.text.prompts import Prompt
from smcgen.text.rewards._reading import StepReader
from smcgen.text.rewards.base import Reward
from smcgen.text.rewards.formats import StepFormat, as_format, detect_format
from smcgen.text.texts import Texts

if TYPE_CHECKING:
    from transformers import PreTrainedModel


@dataclass(frozen=True, eq=False)
class ProcessReward(Reward):
    """A process reward model, read where each step ends; scores are probabilities.

    `ProcessReward("Qwen/Qwen2.5-Math-PRM-7B")` is all that public models need. Any token or
    sequence classifier over a decoder, with one label or two, and any language model that answers
    by a good or a bad word, can be one.

    Args:
        model: a name on the Hugging Face hub, a folder, or a model that is loaded already.
        tokenizer: of the reward model; None loads it with the model, or for a loaded model takes
            the policy's.
        format: how steps are written for the model and where it is read, a `StepFormat` or its name
            (`smcgen.text.rewards.formats`); None goes by the model's class and name.
        device: where to load it; "auto" is a GPU if there is one.
        dtype: of the loaded weights; "auto" is what they were saved in.
        trust_remote_code: run code that comes with the model.
        batch_size: most rows in one forward pass; None is all of them.
        elsewhere: the model has a GPU of its own, so that it can score while the engine writes: see `Reward.elsewhere`.

    Raises:
        InvalidArgument: a format that does not suit the model or tokenizer.
        ModelError: when a run starts, if the model's state is not a plain KV cache.
        MissingExtra: without torch and transformers.

    Sources: Lightman et al. 2023 (arXiv:2305.20050); formats cite their model cards.
    """

    model: "str | Path | PreTrainedModel"
    tokenizer: Any = field(default=None, repr=False)
    format: str | StepFormat | None = None
    device: str = field(default="auto", kw_only=True)
    dtype: Any = field(default="auto", kw_only=True)
    trust_remote_code: bool = field(default=False, kw_only=True)
    batch_size: int | None = field(default=None, kw_only=True)
    elsewhere: bool = field(default=False, kw_only=True)
    probability: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise InvalidArgument("batch_size", self.batch_size, "None or an integer >= 1")
        try:
            from smcgen.text.rewards import _scorer
        except ImportError as error:
            raise MissingExtra("ProcessReward", "transformers", "text") from error
        if self.format is None:
            form = detect_format(*_scorer.architectures(self.model))
        else:
            form = as_format(self.format)
        model, tokenizer = self.model, self.tokenizer
        if isinstance(model, str | Path):
            model, own = _scorer.load_scorer(
                model, form, self.device, self.dtype, self.trust_remote_code
            )
            tokenizer = own if tokenizer is None else tokenizer
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "tokenizer", tokenizer)
        object.__setattr__(self, "format", form)

    def open_reward(
        self, prompts: Sequence[Prompt], n: int, tokenizer: Any, meter: Meter
    ) -> "_ProcessSession":
        return _ProcessSession(self, prompts, n, tokenizer, meter)


class _ProcessSession:
    """The reward model's cache, and how much of each row it has read. Of equal texts one is read, and copied."""

    def __init__(
        self, part: ProcessReward, prompts: Sequence[Prompt], n: int, tokenizer: Any, meter: Meter
    ):
        from smcgen.text._torch.population import Population

        assert isinstance(part.format, StepFormat)
        self._part, self._meter = part, meter
        rows, model = len(prompts) * n, part.model
        width = int(model.get_input_embeddings().weight.shape[0])  # type: ignore[union-attr]
        self._reader = StepReader(part.format, part.tokenizer, tokenizer, width, rows)
        self._encoder = self._reader.encoder
        opened = [self._reader.prompt(p) for p in prompts]
        with meter.reward():
            self._population = Population(
                model,  # type: ignore[arg-type]
                opened,
                n,
                meter_prefill=lambda count: meter.add(reward_tokens=count),
            )
        self._score = np.full(rows, np.nan)
        # what each row has read, by number: that of its prompt, then of what it had and what came after
        self._contents: dict[tuple[int, ...], int] = {}
        self._content = [self._numbered((-1, *ids)) for ids in opened for _ in range(n)]

    def score(self, texts: Texts, rows: Int[np.ndarray, " m"]) -> Float64[np.ndarray, " m"]:
        new = {int(row): self._reader.new(texts, int(row)) for row in rows}
        firsts: dict[int, int] = {}
        source = np.arange(len(self._score))
        for row, ids in new.items():
            if ids:
                content = self._numbered((self._content[row], *ids))
                self._content[row] = content
                source[row] = firsts.setdefault(content, row)
        # By length, so that a batch has little padding.
        behind = sorted(firsts.values(), key=lambda row: len(new[row]))
        size = self._part.batch_size or max(len(behind), 1)
        for start in range(0, len(behind), size):
            batch = behind[start : start + size]
            self._feed(np.asarray(batch), [new[row] for row in batch])
        if len(firsts) < sum(map(bool, new.values())):
            self._population.take(source)
            self._score = self._score[source]
        return self._score[rows]

    def _numbered(self, content: tuple[int, ...]) -> int:
        return self._contents.setdefault(content, len(self._contents))

    def mark(self) -> Any:
        return self._population.mark(), self._reader.mark(), self._score.copy(), list(self._content)

    def rewind(self, mark: Any) -> None:
        length, reader, self._score, self._content = mark
        self._population.rewind(length)
        self._reader.rewind(reader)

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        self._population.take(ancestors)
        self._reader.take(ancestors)
        self._score = self._score[ancestors]
        self._content = [self._content[a] for a in ancestors.tolist()]

    def drop(self, rows: Int[np.ndarray, " m"]) -> None:
        self._population.drop(rows)

    def close(self) -> None:
        self._population.close()

    def _feed(self, rows: Int[np.ndarray, " m"], ids: list[list[int]]) -> None:
        from smcgen.text.rewards._scorer import probabilities

        outputs = self._population.append(rows, ids)
        self._score[rows] = probabilities(outputs, self._encoder.words)
        self._meter.add(reward_calls=len(rows), reward_tokens=sum(map(len, ids)))
