"""What can be loaded, and what the errors say."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers as tf

from smcgen.core.cost import Meter
from smcgen.errors import InvalidArgument, ModelError, SmcgenError
from smcgen.text.engines import Engine, Law, Transformers
from smcgen.text.sampling import Sampling
from tests.text._torch.tiny import VOCAB, model
from tests.text.build import build, encoder_decoder, recurrent
from tests.text.engines.tokenizers import byte_level, word_level
from tests.text.engines.toys import engine, prompt


def test_importing_engines_is_light():
    code = "import sys, smcgen.text.engines; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_folder_an_object_and_their_names(tmp_path: Path):
    folder = tmp_path / "tiny"
    model("qwen2").save_pretrained(folder)
    with pytest.raises(InvalidArgument, match="tokenizer"):
        Transformers(folder)
    word_level().save_pretrained(folder)
    loaded, given = Transformers(str(folder)), engine()
    with pytest.raises(InvalidArgument, match="nonsense"):
        Transformers(folder, nonsense=3)
    assert isinstance(loaded, Engine)
    assert loaded.name.startswith("tiny@")
    assert loaded.name.split("@")[1] == given.name.split("@")[1]
    assert engine("llama").name.split("@")[1] != given.name.split("@")[1]
    assert loaded.max_length == 256
    assert loaded.vocab_size == VOCAB
    assert loaded.eos_ids == {0, 2}  # the tokenizer's and the model's
    assert given.tokenizer.pad_token is None
    scores = [e.score([prompt(5, 9)], [[4, 8]])[0] for e in (loaded, given)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-5)


def test_what_cannot_be_loaded_says_why(tmp_path: Path):
    with pytest.raises(InvalidArgument, match="a folder that exists"):
        Transformers(tmp_path / "nothing")
    with pytest.raises(InvalidArgument, match="a folder that exists"):
        Transformers("./nothing/here")
    with pytest.raises(SmcgenError, match="hub"):
        Transformers("nobody/nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SmcgenError, match="config.json"):
        Transformers(tmp_path / "empty")
    with pytest.raises(InvalidArgument, match="tokenizer"):
        Transformers(model("qwen2"))
    with pytest.raises(InvalidArgument, match="at most the 61"):
        Transformers(model("qwen2"), byte_level())
    body = build(tf.Qwen2Model, VOCAB)
    with pytest.raises(InvalidArgument, match="causal"):
        Transformers(body, word_level())
    encoder_decoder(VOCAB).config.save_pretrained(tmp_path / "t5")
    with pytest.raises(InvalidArgument, match="causal"):
        Transformers(tmp_path / "t5", word_level())
    model("qwen2").save_pretrained(tmp_path / "qwen2")
    for kind in ("TokenClassification", "SequenceClassification", "ProcessRewardModel"):
        _called(tmp_path / "qwen2", [f"Qwen2For{kind}"])
        with pytest.raises(InvalidArgument, match=f"For{kind}.*causal.*reward="):
            Transformers(tmp_path / "qwen2", word_level())
    with pytest.raises(ModelError, match="Mamba"):
        Transformers(recurrent(VOCAB), word_level())
    with pytest.raises(InvalidArgument, match="max_length"):
        Transformers(model("qwen2"), word_level(), max_length=1000)


def _called(folder: Path, architectures: Any, **more: Any) -> None:
    """What a saved model's configuration says that it is."""
    file = folder / "config.json"
    config = json.loads(file.read_text())
    file.write_text(json.dumps(config | {"architectures": architectures} | more))


@pytest.mark.parametrize(
    "names", [None, [], ["Qwen2ForCausalLM"], ["Qwen2Model"], ["NobodysForConditionalGeneration"]]
)
def test_a_language_model_is_loaded_whatever_it_is_called(tmp_path: Path, names: Any):
    model("qwen2").save_pretrained(tmp_path)
    _called(tmp_path, names)
    assert Transformers(tmp_path, word_level()).vocab_size == VOCAB


def test_a_model_with_code_of_its_own_may_be_called_anything(tmp_path: Path):
    model("qwen2").save_pretrained(tmp_path)
    code = (
        "from transformers import Qwen2ForCausalLM\n\n\nclass Mine(Qwen2ForCausalLM):\n    pass\n"
    )
    (tmp_path / "mine.py").write_text(code)
    _called(tmp_path, ["MineForRewards"], auto_map={"AutoModelForCausalLM": "mine.Mine"})
    loaded = Transformers(tmp_path, word_level(), trust_remote_code=True)
    assert type(loaded.model).__name__ == "Mine"


def test_prompts_that_do_not_fit_are_refused():
    short = Transformers(model("qwen2"), word_level(), max_length=4)
    with pytest.raises(InvalidArgument, match="5 tokens.*max_length=4"):
        short.open([prompt(3, 4, 5, 6, 7)], 2, Law(), Meter())
    with pytest.raises(InvalidArgument, match="5 tokens.*max_length=4"):
        short.score([prompt(3, 4)], [[5, 6, 7]])
    with pytest.raises(InvalidArgument, match="token ids"):
        short.open([prompt(VOCAB)], 2, Law(), Meter())
    with pytest.raises(InvalidArgument, match="completions"):
        short.open([prompt(3)], 2, Law(), Meter(), [[3]])
    with pytest.raises(InvalidArgument, match="completions"):
        short.score([prompt(3), prompt(4)], [[3]], Sampling())
