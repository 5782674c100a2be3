"""What a process reward model has not read yet: the new steps of a text, as its tokens."""

from typing import Any

import numpy as np
from jaxtyping import Int

from smcgen.errors import InvalidArgument
from smcgen.text.detokenize import Detokenizer
from smcgen.text.prompts import Prompt
from smcgen.text.rewards._encode import StepEncoder
from smcgen.text.rewards.formats import StepFormat
from smcgen.text.texts import Row, Texts


class StepReader:
    """How much of each row has been read; rows move with the particles.

    Args:
        form: how steps are written for the model.
        own: the reward model's tokenizer; None is the policy's.
        policy: the policy's tokenizer.
        width: tokens that the model can embed.
        rows: in the population.

    Raises:
        InvalidArgument: token ids pass through, but do not mean the same on both sides.
    """

    def __init__(self, form: StepFormat, own: Any, policy: Any, width: int, rows: int):
        own = policy if own is None else own
        self.encoder = StepEncoder(form, own)
        self._through = form.chat == "ids"
        if self._through:
            _check_same(width, own, policy)
        self._read = np.zeros(rows, dtype=np.int64)  # steps of the text that have been read
        self._written = np.zeros(rows, dtype=np.int64)  # of these, the ones that had any text
        self._words = [Detokenizer(policy) for _ in range(0 if self._through else rows)]

    def prompt(self, prompt: Prompt) -> list[int]:
        """What is read before the first step."""
        return list(prompt.ids) if self._through else self.encoder.prompt(prompt)

    def new(self, texts: Texts, row: Row) -> list[int]:
        """Tokens of the steps that have not been read yet; none if they say nothing new."""
        steps = texts.steps(row)
        new, self._read[row] = steps[self._read[row] :], len(steps)
        if self._through:
            return [i for step in new for i in step]
        pieces = [self._words[row].push(step) for step in new]
        if pieces and texts.ended[row]:
            pieces[-1] += self._words[row].flush()
        ids: list[int] = []
        for piece in pieces:
            # A step of nothing but an end-of-text token is no step of the solution.
            if piece.strip() or self._written[row] == 0:
                ids += self.encoder.step(piece, int(self._written[row]))
                self._written[row] += 1
        return ids

    def mark(self) -> Any:
        """The state now, for `rewind`."""
        return self._read.copy(), self._written.copy(), [words.fork() for words in self._words]

    def rewind(self, mark: Any) -> None:
        """Forget what was read since `mark`."""
        self._read, self._written, self._words = mark

    def take(self, ancestors: Int[np.ndarray, " rows"]) -> None:
        """Row i becomes a copy of row `ancestors[i]`."""
        self._read, self._written = self._read[ancestors], self._written[ancestors]
        if self._words:
            self._words = [
                self._words[a] if a == i else self._words[a].fork()
                for i, a in enumerate(ancestors.tolist())
            ]


def _check_same(width: int, tokenizer: Any, policy: Any) -> None:
    """Token ids can only pass through if they mean the same on both sides."""
    if tokenizer is not policy and tokenizer.get_vocab() != policy.get_vocab():
        raise InvalidArgument(
            "format",
            "token",
            "a format that reads text: the reward model's vocabulary is not the policy's",
        )
    if width < len(policy):
        raise InvalidArgument(
            "model",
            f"a reward model of {width} tokens",
            f"one that has the policy's {len(policy)} tokens, or a tokenizer and format for text",
        )
