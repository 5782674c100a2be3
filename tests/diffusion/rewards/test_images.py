"""Rewards of images, on tiny real models with random weights."""

import itertools

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import (
    CLIPConfig,
    CLIPImageProcessorPil,
    CLIPModel,
    CLIPProcessor,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)

from smcgen.diffusion import FunctionReward, steer
from smcgen.diffusion.rewards.images import Aesthetic, CLIPScore, ImageClassifier, ImageReward
from smcgen.diffusion.rewards.images._blip import ranker
from smcgen.diffusion.rewards.images._pixels import ByProcessor, pixels_of
from smcgen.diffusion.rewards.named import named
from smcgen.errors import InvalidArgument, UnknownName
from tests.diffusion.pipelines import tiny

SIDE = 16


def images(rows=3, height=24, width=32):
    torch.manual_seed(0)
    # on the 8-bit grid, so that processors which go through PIL see the same
    # and away from its ends, where PIL cuts what bicubic interpolation overshoots between its two passes
    return (64 + torch.rand(rows, 3, height, width) * 128).round() / 255


def pil(batch):
    return list((batch.permute(0, 2, 3, 1).numpy() * 255).round().astype(np.uint8))


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    shape = {
        "hidden_size": 8,
        "intermediate_size": 16,
        "num_hidden_layers": 1,
        "num_attention_heads": 2,
    }
    config = CLIPConfig(
        text_config={**shape, "vocab_size": 74, "max_position_embeddings": 16, "eos_token_id": 1,
                     "bos_token_id": 0, "pad_token_id": 1},
        vision_config={**shape, "image_size": SIDE, "patch_size": 8},
        projection_dim=8,
    )  # fmt: skip
    size = {"height": SIDE, "width": SIDE}
    reader = CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size=size)
    return CLIPModel(config).eval(), CLIPProcessor(reader, tiny.clip_tokenizer())


@pytest.fixture(scope="module")
def vit():
    torch.manual_seed(0)
    config = ViTConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=SIDE,
        patch_size=8,
        id2label={0: "cat", 1: "dog", 2: "owl"},
        label2id={"cat": 0, "dog": 1, "owl": 2},
    )
    processor = ViTImageProcessorPil(size={"height": SIDE, "width": SIDE})
    return ViTForImageClassification(config).eval(), processor


@pytest.mark.parametrize(
    "processor",
    [
        CLIPImageProcessorPil(size={"shortest_edge": 16}, crop_size={"height": 16, "width": 16}),
        ViTImageProcessorPil(size={"height": 16, "width": 16}),
        ViTImageProcessorPil(size={"height": 40, "width": 48}),
    ],
)
def test_pixels_are_those_of_the_processor(processor):
    batch = images()
    wanted = processor(images=pil(batch), return_tensors="pt")["pixel_values"]
    ours = pixels_of(processor)(batch)
    assert not isinstance(pixels_of(processor), ByProcessor)
    # PIL rounds to 8 bits in between: one unit is 1 / 255 / std
    assert (ours - wanted).abs().max() < 2.5 / 255 / 0.26


def test_an_unusual_processor_is_used_itself():
    processor = ViTImageProcessorPil(size={"height": 16, "width": 16}, do_normalize=False)
    wanted = processor(images=pil(images()), return_tensors="pt")["pixel_values"]
    np.testing.assert_array_equal(pixels_of(processor)(images()), wanted)


def test_classifier(vit):
    model, processor = vit
    with torch.no_grad():
        logits = model(pixel_values=pixels_of(processor)(images())).logits
        for output, wanted in {
            "logit": logits,
            "log_prob": logits.log_softmax(-1),
            "probability": logits.softmax(-1),
        }.items():
            score = ImageClassifier(model, "dog", output, processor)(images())
            np.testing.assert_allclose(score, wanted[:, 1], atol=1e-6)
        np.testing.assert_array_equal(
            ImageClassifier(model, 1, processor=processor)(images()),
            ImageClassifier(model, "dog", processor=processor)(images()),
        )


def test_classifier_by_folder(vit, tmp_path):
    for part in vit:
        part.save_pretrained(tmp_path)
    with torch.no_grad():
        one = ImageClassifier(tmp_path, "owl")(images())
        np.testing.assert_allclose(one, ImageClassifier(vit[0], "owl", processor=vit[1])(images()))


def test_classifier_bad_input(vit):
    model, processor = vit
    with pytest.raises(InvalidArgument, match="label='bird'.*'cat', 'dog', 'owl'"):
        ImageClassifier(model, "bird", processor=processor)
    with pytest.raises(InvalidArgument, match="processor"):
        ImageClassifier(model, "dog")
    with pytest.raises(InvalidArgument, match="/no/such"):
        ImageClassifier("/no/such", "dog")


def test_clip(clip):
    model, processor = clip
    prompts = ["a cat", "dog", "a cat"]
    pixels = pixels_of(processor)(images())
    text = processor.tokenizer(prompts, padding="max_length", return_tensors="pt")
    with torch.no_grad():
        wanted = model(pixel_values=pixels, **text).logits_per_image.diagonal()
        logits = CLIPScore(model, processor, output="logit")(images(), prompts)
        np.testing.assert_allclose(logits, wanted, rtol=1e-5)
        cosine = CLIPScore(model, processor)(images(), prompts)
        np.testing.assert_allclose(cosine, wanted / model.logit_scale.exp(), rtol=1e-5)
        fixed = CLIPScore(model, processor, "a cat")(images(), ["x"] * 3)
        np.testing.assert_allclose(fixed[0], cosine[0], rtol=1e-6)


def test_clip_reads_each_text_once(clip, monkeypatch):
    model, processor = clip
    score, calls, read = CLIPScore(model, processor), [], model.get_text_features
    monkeypatch.setattr(
        model,
        "get_text_features",
        lambda input_ids, **k: calls.append(len(input_ids)) or read(input_ids, **k),
    )
    for _ in range(2):
        score(images(), ["a", "b", "a"])
    assert calls == [2]


def test_aesthetic(clip, tmp_path):
    """The five layers of the published head, applied one after the other."""
    model, processor = clip
    widths, weights, layers = (8, 16, 8, 4, 4, 1), {}, []
    for place, (a, b) in zip((0, 2, 4, 6, 7), itertools.pairwise(widths), strict=True):
        layer = torch.nn.Linear(a, b)
        layers.append(layer)
        weights[f"layers.{place}.weight"] = layer.weight.detach().clone()
        weights[f"layers.{place}.bias"] = layer.bias.detach().clone()
    save_file(weights, tmp_path / "head.safetensors")
    torch.save(weights, tmp_path / "head.pth")
    with torch.no_grad():
        seen = model.get_image_features(pixel_values=pixels_of(processor)(images())).pooler_output
        wanted = torch.nn.Sequential(*layers)(seen / seen.norm(dim=-1, keepdim=True))[:, 0]
        for name in ("head.safetensors", "head.pth"):
            score = Aesthetic(tmp_path / name, model, processor)(images())
            np.testing.assert_allclose(score, wanted, atol=1e-6)
    del weights["layers.7.bias"]
    save_file(weights, tmp_path / "head.safetensors")
    with pytest.raises(InvalidArgument, match="head="):
        Aesthetic(tmp_path / "head.safetensors", model, processor)


def published_weights():
    """A tiny ImageReward under the names of the published file."""
    torch.manual_seed(0)
    w, t, draw = 128, 64, lambda *shape: torch.randn(*shape) * 0.2
    weights = {
        "cls_token": draw(1, 1, w),
        "pos_embed": draw(1, 5, w),
        "patch_embed.proj.weight": draw(w, 3, 8, 8),
        "patch_embed.proj.bias": draw(w),
        "norm.weight": draw(w),
        "norm.bias": draw(w),
    }
    for name, (a, b) in {
        "attn.qkv": (3 * w, w),
        "attn.proj": (w, w),
        "mlp.fc1": (32, w),
        "mlp.fc2": (w, 32),
    }.items():
        weights |= {f"blocks.0.{name}.weight": draw(a, b), f"blocks.0.{name}.bias": draw(a)}
    for name in ("norm1", "norm2"):
        weights |= {f"blocks.0.{name}.weight": draw(w), f"blocks.0.{name}.bias": draw(w)}
    text = {
        "embeddings.word_embeddings.weight": draw(74, t),
        "embeddings.position_embeddings.weight": draw(40, t),
        "embeddings.position_ids": torch.arange(40)[None],
        "embeddings.LayerNorm.weight": draw(t),
        "embeddings.LayerNorm.bias": draw(t),
    }
    layer = "encoder.layer.0."
    for kind, width in {"attention": t, "crossattention": w}.items():
        for name, wide in {"query": t, "key": width, "value": width}.items():
            text[f"{layer}{kind}.self.{name}.weight"] = draw(t, wide)
            text[f"{layer}{kind}.self.{name}.bias"] = draw(t)
        text[f"{layer}{kind}.output.dense.weight"] = draw(t, t)
        text[f"{layer}{kind}.output.dense.bias"] = draw(t)
    text |= {
        f"{layer}intermediate.dense.weight": draw(32, t),
        f"{layer}intermediate.dense.bias": draw(32),
    }
    text |= {f"{layer}output.dense.weight": draw(t, 32), f"{layer}output.dense.bias": draw(t)}
    for name in ("attention.output", "crossattention.output", "output"):
        text |= {
            f"{layer}{name}.LayerNorm.weight": draw(t),
            f"{layer}{name}.LayerNorm.bias": draw(t),
        }
    head = {"layers.0.weight": draw(4, t), "layers.0.bias": draw(4)}
    head |= {"layers.2.weight": draw(1, 4), "layers.2.bias": draw(1)}
    return (
        {f"blip.visual_encoder.{k}": v for k, v in weights.items()}
        | {f"blip.text_encoder.{k}": v for k, v in text.items()}
        | {f"mlp.{k}": v for k, v in head.items()}
    )


def test_image_reward(tmp_path):
    """Every published tensor has its place; batches score as single images do; both inputs count."""
    weights = published_weights()
    torch.save(weights, tmp_path / "ImageReward.pt")
    score = ImageReward(tmp_path / "ImageReward.pt", tiny.clip_tokenizer())
    prompts = ["a cat", "dog 7", "owl"]
    with torch.no_grad():
        together = score(images(), prompts)
        alone = torch.cat([score(images()[i : i + 1], [prompts[i]]) for i in range(3)])
        other_prompts = score(images(), prompts[::-1])
    np.testing.assert_allclose(together, alone, rtol=1e-4)
    assert (together[0] - other_prompts[0]).abs() > 1e-4
    assert together.std() > 1e-4
    del weights["blip.visual_encoder.blocks.0.mlp.fc1.bias"]
    with pytest.raises(InvalidArgument, match="the weights of ImageReward"):
        ranker(weights)


def test_names():
    """Offline, so a name that is known says what could not be had."""
    with pytest.raises(UnknownName, match="'niceness'.*'aesthetic'.*'pickscore'"):
        named("niceness")
    for name in ("ImageReward", "hpsv2", "PickScore", "clip", "aesthetic"):
        with pytest.raises(InvalidArgument, match="hub"):
            named(name)


@pytest.mark.slow
def test_steering_a_pipeline_by_models(vit, clip):
    """What a reward sees is what people get, and its prompts are the pipeline's."""
    pipe = tiny.stable_diffusion()
    options = {"prompt": ["a cat", "dog 7"], "n_particles": 2, "num_inference_steps": 4}
    classifier = ImageClassifier(vit[0], "owl", processor=vit[1])
    for result in steer(pipe, FunctionReward(classifier, batch_size=2), strength=10.0, **options):
        with torch.no_grad():
            np.testing.assert_allclose(result.rewards, classifier(result.samples), atol=1e-5)
    score = CLIPScore(*clip)
    for result in steer(pipe, score, strength=10.0, **options):
        with torch.no_grad():
            wanted = score(result.samples, [result.prompt] * 2)
        np.testing.assert_allclose(result.rewards, wanted, atol=1e-5)
