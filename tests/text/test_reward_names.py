"""Rewards by kind, with their arguments as JSON."""

import json

import pytest
import transformers as tf
from typer.testing import CliRunner

from smcgen.cli import app
from smcgen.errors import InvalidArgument, UnknownName
from smcgen.shipped import shipped
from smcgen.text._reward_names import load_reward, named_reward
from smcgen.text.rewards import ClassifierReward, ProcessReward
from tests.text import tiny, vllm_tiny
from tests.text.build import build
from tests.text.engines.served import serving
from tests.text.rewards.test_remote_reward import Pooling

PRM, KEY = str(shipped("tape-prm-good")), "sk-secret-123"


@pytest.fixture
def classifier(tmp_path):
    """A folder with a classifier of one label, which vLLM can run, too."""
    shape = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    head = tf.LlamaForSequenceClassification
    model = build(head, len(tiny.tokenizer()), num_labels=1, **shape)
    model.save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    return str(tmp_path)


def test_kinds_and_arguments(classifier):
    reward = load_reward("process", PRM)
    assert isinstance(reward, ProcessReward)
    assert load_reward("process", PRM, '{"batch_size": 3}').batch_size == 3
    options = '{"output": "probability", "reads": "completion"}'
    reward = load_reward("classifier", classifier, options)
    assert isinstance(reward, ClassifierReward)
    assert (reward.output, reward.reads) == ("probability", "completion")


@vllm_tiny.needs_vllm
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["process", "classifier"])
def test_on_vllm(classifier, kind):
    vllm_tiny.light()
    options = dict(vllm_tiny.SMALL)
    if kind == "process":
        options["format"] = "token"
    with load_reward(f"vllm-{kind}", classifier, json.dumps(options)) as reward:
        assert type(reward).__name__ == f"VLLM{kind.capitalize()}Reward"


def test_what_is_wrong_is_said():
    with pytest.raises(UnknownName, match="reward_kind='prm'.*'classifier', 'process', 'remote'"):
        load_reward("prm", PRM)
    with pytest.raises(InvalidArgument, match="reward='./no/model'"):
        load_reward("process", "./no/model")
    with pytest.raises(InvalidArgument, match="reward_args='nonsense'.*argument of ProcessReward"):
        load_reward("process", PRM, '{"nonsense": 1}')
    with pytest.raises(InvalidArgument, match="reward_args.* not a list"):
        load_reward("process", PRM, "[]")
    for kind, options in (("remote", None), ("process", "{}")):
        with pytest.raises(InvalidArgument, match="nothing without --reward"):
            named_reward(kind, None, options)
    assert named_reward("process", None, None) is None


@pytest.mark.slow
def test_steer_with_a_reward_on_a_server_whose_key_is_not_shown(classifier):
    head = tf.AutoModelForSequenceClassification.from_pretrained(classifier)
    with serving(Pooling(head, tiny.tokenizer())) as server:
        options = json.dumps({"output": "probability", "api_key": KEY})
        command = ["steer", "--model", str(vllm_tiny.folder()), "--prompt", "ab", "-n", "3"]
        command += ["--step", "2", "--max-tokens", "4", "--reward", server.url]
        command += ["--reward-kind", "remote", "--reward-args", options]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        assert server.asked
        assert set(server.keys) == {f"Bearer {KEY}"}
    assert KEY not in done.output
    row = json.loads(done.stdout)
    assert len(row["texts"]) == 3
