"""The shipped diffusion models load offline and are as good as their cards say; their scripts run."""

import json
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("sklearn")
from transformers import AutoTokenizer, BertForMaskedLM  # noqa: E402

from models import _digits, brackets, train_brackets, train_digits  # noqa: E402
from smcgen.diffusion.nets import ConvClassifier, MLPClassifier, VectorDenoiser  # noqa: E402
from smcgen.errors import InvalidArgument  # noqa: E402
from smcgen.shipped import shipped  # noqa: E402

NAMES = ("digits-denoiser", "digits-classifier", "digits-judge", "brackets-mdlm")


def metrics(name):
    return json.loads((shipped(name) / "metrics.json").read_text())["metrics"]


@pytest.mark.parametrize("name", NAMES)
def test_folder_is_complete(name):
    folder = shipped(name)
    card = (folder / "README.md").read_text()
    assert "Apache-2.0" in card
    assert "python -m models." in card
    assert metrics(name)
    assert [p.name for p in folder.glob("*.safetensors")] == ["model.safetensors"]


def test_digits_are_as_good_as_their_cards_say():
    _, held_out = _digits.load()
    for name, net in (("digits-classifier", MLPClassifier), ("digits-judge", ConvClassifier)):
        found = _digits.accuracy(net.from_pretrained(shipped(name)), held_out)
        assert found == pytest.approx(metrics(name)["held-out accuracy"], abs=0.005)
        assert found > 0.97
    denoiser = VectorDenoiser.from_pretrained(shipped("digits-denoiser"))
    found = _digits.held_out_loss(denoiser, held_out)
    assert found == pytest.approx(metrics("digits-denoiser")["held-out loss"], abs=0.005)


def test_brackets_are_as_good_as_their_card_says():
    model = BertForMaskedLM.from_pretrained(shipped("brackets-mdlm")).eval()
    card = metrics("brackets-mdlm")
    found = train_brackets.bound(model, rows=1024, seed=5)
    assert found == pytest.approx(card["bound, nats per character"], abs=0.03)
    assert card["bound, nats per character"] > card["entropy, nats per character"]
    assert card["balanced, 24 steps"] > 0.85
    tokenizer = AutoTokenizer.from_pretrained(shipped("brackets-mdlm"))
    ids = brackets.sample(np.random.default_rng(0), 2)
    assert tokenizer.batch_decode(ids) == [brackets.text(row) for row in ids]
    assert tokenizer.mask_token_id == brackets.MASK


def test_a_folder_of_another_kind_is_refused(tmp_path):
    with pytest.raises(InvalidArgument, match="ConvClassifier"):
        ConvClassifier.from_pretrained(shipped("digits-classifier"))
    with pytest.raises(InvalidArgument, match=r"config.json and model.safetensors"):
        MLPClassifier.from_pretrained(tmp_path)


@pytest.mark.slow
def test_training_scripts_run(tmp_path: Path):
    train_digits.main(["--tiny", "--out", str(tmp_path)])
    train_brackets.main(["--tiny", "--out", str(tmp_path)])
    for name in NAMES:
        assert (tmp_path / name / "model.safetensors").exists()
    assert VectorDenoiser.from_pretrained(tmp_path / "digits-denoiser")
