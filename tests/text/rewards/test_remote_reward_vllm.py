"""`RemoteReward` on real vLLM servers of classifiers, against the same models in this process."""

import numpy as np
import pytest
import transformers as tf

from smcgen.text._http import ServerError
from smcgen.text.rewards import ClassifierReward
from smcgen.text.rewards.remote import RemoteReward
from tests.text import vllm_tiny
from tests.text.build import build
from tests.text.rewards._prms import POLICY
from tests.text.rewards._texts import Writer
from tests.text.rewards.test_remote_reward import scored
from tests.text.vllm_server import vllm_server

pytest.importorskip("httpx")
pytestmark = [
    vllm_tiny.needs_vllm,
    pytest.mark.long,  # the server's own time is not measured
    pytest.mark.filterwarnings("ignore"),
]
TEXTS = ["ab a", "no no", "ab a", "1+1=2"]


@pytest.fixture(scope="module", params=[1, 2], ids=["one label", "two labels"])
def served(request, tmp_path_factory):
    """A classifier and the address of its server."""
    shape = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    shape |= {"initializer_range": 0.2, "pad_token_id": 0}
    kind, folder = tf.Qwen2ForSequenceClassification, tmp_path_factory.mktemp("served")
    model = build(kind, len(POLICY), num_labels=request.param, **shape)
    model.save_pretrained(folder / "model")
    POLICY.save_pretrained(folder / "model")
    with vllm_server(folder / "model", folder / "log", "--runner", "pooling") as url:
        yield model, url


@pytest.mark.parametrize("output", ["probability", "log_prob", "logit"])
@pytest.mark.parametrize("reads", ["joined", "completion"])
def test_classify(served, output, reads):
    model, url = served
    texts, label = Writer.of(TEXTS, POLICY, ["So a"]), model.config.num_labels - 1
    options = {"label": label, "output": output, "reads": reads}
    want = ClassifierReward(model, POLICY, **options)
    found = scored(RemoteReward(url, **options), texts)[1]
    np.testing.assert_allclose(found, scored(want, texts)[1], atol=1e-4)
    assert len(set(found.round(4))) == 3


@pytest.mark.parametrize("output", ["probability", "log_prob", "logit"])
def test_score(served, output):
    model, url = served
    texts = Writer.of(TEXTS, POLICY, ["So a"])
    part = RemoteReward(url, reads="pair", output=output, retries=0)
    if model.config.num_labels == 1:
        want = ClassifierReward(model, POLICY, 0, output, reads="pair")
        found = scored(part, texts)[1]
        np.testing.assert_allclose(found, scored(want, texts)[1], atol=1e-4)
        assert len(set(found.round(4))) == 3
    else:
        with pytest.raises(ServerError, match="404.*no /score is offered.*reads='joined'"):
            scored(part, texts)


def test_pooling_says_what_classify_says(served):
    model, url = served
    texts, label = Writer.of(TEXTS, POLICY, ["So a"]), model.config.num_labels - 1
    one, two = (
        scored(RemoteReward(url, label=label, output="logit", endpoint=endpoint), texts)[1]
        for endpoint in ("pooling", "classify")
    )
    np.testing.assert_allclose(one, two, atol=1e-5)
