"""A population of texts that a test writes by hand, moved as an engine would move it."""

import numpy as np

from smcgen.text.prompts import Prompt
from smcgen.text.texts import Finish, Texts


class Writer:
    """Token ids by row and step, with what a sampler does to them."""

    def __init__(self, prompts, n, tokenizer):
        self.prompts = [
            p if isinstance(p, Prompt) else Prompt(tuple(tokenizer(p)["input_ids"]), p)
            for p in prompts
        ]
        self.n, self.tokenizer = n, tokenizer
        self.steps = [[] for _ in range(len(prompts) * n)]
        self.finish = np.zeros(len(self.steps), dtype=np.int8)

    @classmethod
    def of(cls, completions, tokenizer, prompts=("a",), n=None):
        """One step per row."""
        writer = cls(list(prompts), n or len(completions), tokenizer)
        for row, text in enumerate(completions):
            writer.add(row, text)
        return writer.texts()

    def add(self, row, step, finish=Finish.RUNNING):
        ids = self.tokenizer(step)["input_ids"] if isinstance(step, str) else step
        self.steps[row].append(list(ids))
        self.finish[row] = finish

    def ahead(self, rows, step):
        """Other texts: those of `rows` have a step more."""
        other = Writer(self.prompts, self.n, self.tokenizer)
        other.steps, other.finish = [[*steps] for steps in self.steps], self.finish.copy()
        for row in rows:
            other.add(row, step)
        return other

    def take(self, ancestors):
        self.steps = [[*self.steps[a]] for a in ancestors]
        self.finish = self.finish[ancestors]

    def texts(self):
        rows = [[i for step in steps for i in step] for steps in self.steps]
        lengths = np.asarray([len(r) for r in rows])
        ids = np.full((len(rows), max(lengths.max(), 1)), -1)
        ends = np.zeros((len(rows), max(1, max(map(len, self.steps)))), dtype=np.int64)
        for row, steps in enumerate(self.steps):
            ids[row, : lengths[row]] = rows[row]
            ends[row] = lengths[row]
            ends[row, : len(steps)] = np.cumsum([len(s) for s in steps])
        return Texts(self.prompts, self.n, ids, lengths, ends, self.finish.copy(), self.tokenizer)
