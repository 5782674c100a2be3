"""What the vLLM engine does not take is one short error that names the argument, what came and what is allowed."""

from pathlib import Path

import pytest

from smcgen.errors import InvalidArgument
from smcgen.text.engines._llm import VLLMRequests
from tests.text import vllm_tiny

pytestmark = [vllm_tiny.needs_vllm, pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
MODELS = Path(__file__).parents[3] / "models"
BAD = [
    ({"restarts": -1}, "^restarts=-1 .*an integer >= 0$"),
    ({"restarts": "x"}, "^restarts='x' .*an integer >= 0$"),
    ({"restarts": True}, "^restarts=True .*an integer >= 0$"),
    ({"max_length": 1000}, r"^max_length=1000 .*None or an integer in \[1, 128\]$"),
    ({"max_length": 0}, "^max_length=0 .*None or an integer >= 1$"),
    ({"max_length": 1000, "max_num_seqs": 0}, "^max_num_seqs=0 "),
    ({"max_num_seqs": "a"}, "^max_num_seqs='a' .*valid integer"),
    ({"max_num_seqs": 0}, "^max_num_seqs=0 .*greater than or equal to 1[)]$"),
    ({"dtype": "float77"}, "^dtype='float77' .*'bfloat16'"),
    ({"quantization": "foo"}, "^quantization='foo' .*'awq'"),
    ({"no_such_thing": 1}, "^no_such_thing=1 .*an engine argument of vLLM's$"),
    ({"max_num_seq": 1}, "^max_num_seq=1 .*did you mean 'max_num_seqs'"),
]


@pytest.mark.parametrize(("options", "message"), BAD, ids=[str(options) for options, _ in BAD])
def test_arguments(options, message, unchecked):
    with pytest.raises(InvalidArgument, match=message) as caught:
        vllm_tiny.new_engine(**options)
    for noise in ("EngineArgs", "pydantic", "input_value", "ENV", "not supported"):
        assert noise not in str(caught.value)


def test_the_cause_is_kept():
    with pytest.raises(InvalidArgument) as caught:
        vllm_tiny.new_engine(max_num_seqs="a")
    assert "'<' not supported" in str(caught.value.__cause__)


def test_a_reward_model_is_no_policy():
    from smcgen.text import VLLM

    with pytest.raises(InvalidArgument, match="^model=.*TokenClassification.*causal language"):
        VLLM(MODELS / "tape-prm-good")


@pytest.mark.parametrize("restarts", [-1, "x", 1.5, False])
def test_restarts_of_an_engine_elsewhere(restarts, unchecked):
    with pytest.raises(InvalidArgument, match="^restarts=.*an integer >= 0$"):
        VLLMRequests(None, restarts=restarts)
