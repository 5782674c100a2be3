"""Runs share models: what one thread asks of a model, another's pass must not disturb."""

import threading

import numpy as np
import torch

from smcgen.text._torch.forward import Forward
from smcgen.text._torch.population import Population
from tests.text import tiny


def test_a_model_is_tried_out_while_another_thread_uses_it():
    """The first run on a reward model asks what it can do (`support`); a second one may be under way."""
    model = tiny.llama.__wrapped__(7)
    population = Population(model, [[0, 1, 2]], 1)
    over = threading.Event()

    def use():
        while not over.is_set() and population.lengths[0] < 120:
            population.feed(np.array([0]), np.array([[1]]))

    ids = torch.tensor([[0, 1, 2, 3], [3, 2, 1, 0]])
    with torch.inference_mode():
        forward = Forward(model, own_attention=True)
        alone = forward.whole(ids)
        thread = threading.Thread(target=use)
        thread.start()
        try:
            for _ in range(100):
                beside = forward.whole(ids)
                assert beside.shape == alone.shape
                assert torch.allclose(beside, alone, atol=1e-5)
        finally:
            over.set()
            thread.join()
