"""Signatures are checked at run time in these tests, with shapes and without."""

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from jaxtyping import TypeCheckError

from smcgen.core.weights import ess
from smcgen.text.detokenize import decode
from smcgen.text.prompts import Prompt
from tests.text.toy import ToyTokenizer

LETTER: Any = "a"
WRONG = {
    "no shapes": lambda: decode(ToyTokenizer(), LETTER),
    "a dataclass": lambda: Prompt(LETTER, "a"),
    "a dtype": lambda: ess(jnp.arange(3)),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_what_does_not_fit_a_hint_is_refused(call):
    with pytest.raises(TypeCheckError):
        call()


def test_checks_can_be_off(unchecked):
    assert Prompt(LETTER, "a").ids == "a"
    assert np.isfinite(ess(jnp.arange(3)))
