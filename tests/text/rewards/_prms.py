"""Tiny process reward models with the tokenizers of each format, and scores by their model cards.

`Reference.ids` writes a whole solution as the public inference code does, from scratch; `score`
runs the model on it without any cache.
"""

from dataclasses import dataclass
from typing import Any

import torch
import transformers as tf
from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from smcgen.text.rewards import _scorer
from tests.text.build import build
from tests.text.factors._vocab import byte_tokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "<|bos|>{% for m in messages %}<|head|>{{ m['role'] }}<|/head|>\n\n{{ m['content'] | trim }}"
    "<|eot|>{% endfor %}{% if add_generation_prompt %}<|head|>assistant<|/head|>\n\n{% endif %}"
)
SYSTEM = "Please reason step by step, and put your final answer within \\boxed{}."
POLICY = byte_tokenizer([("a", "b"), ("Ċ", "Ċ"), ("Ġ", "a")])


def byte_level(special=(), template=None, bos=None):
    tokenizer = byte_tokenizer([("Ċ", "Ċ"), ("Ġ", "S"), ("t", "e"), ("Ġ", "a"), (".", "Ċ")])
    tokenizer.add_special_tokens({"additional_special_tokens": list(special)})
    tokenizer.chat_template = template
    if bos:
        tokenizer.bos_token = bos
    return tokenizer


def sentencepiece():
    """Like Mistral's: a space before every text, spaces as "▁", bytes for what is not known."""
    special = ["<unk>", "<s>", "</s>"]
    merges = [("▁", "к"), ("▁к", "и"), ("▁", "+"), ("▁", "-"), ("▁", "a"), ("▁", "S"), ("t", "e")]
    characters = ["▁", "к", "и", "+", "-", *"aSteplnoO123.=? "]
    vocab = [*special, *(f"<0x{b:02X}>" for b in range(256)), *characters]
    vocab += [a + b for a, b in merges]
    core = Tokenizer(
        models.BPE(
            vocab={t: i for i, t in enumerate(vocab)},
            merges=merges,
            byte_fallback=True,
            unk_token="<unk>",
        )
    )
    core.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    core.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    core.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=core, bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


@dataclass
class Reference:
    """A model, its tokenizer, and what public code does with them."""

    name: str
    model: Any
    tokenizer: Any

    def ids(self, prompt, steps):
        """All tokens up to the one where the last step is scored. `steps`: texts, or ids."""
        encode = lambda s: self.tokenizer(s, add_special_tokens=False)["input_ids"]
        if self.name.startswith("token"):
            return [*prompt.ids, *(i for step in steps for i in step)]
        steps = [s.strip() for s in steps]
        if self.name == "qwen":
            messages = [
                {"role": "system", "content": SYSTEM},
                {"role": "user", "content": prompt.text},
                {"role": "assistant", "content": "<extra_0>".join(steps) + "<extra_0>"},
            ]
            ids = encode(self.tokenizer.apply_chat_template(messages, tokenize=False))
            last = self.tokenizer.convert_tokens_to_ids("<extra_0>")
            return ids[: len(ids) - ids[::-1].index(last)]
        if self.name == "skywork":
            ids = encode(self.tokenizer.bos_token + prompt.text + "\n")
            newline = encode("\n")[-1]
            for line in "\n".join(steps).split("\n"):
                ids += [*encode(line), newline]
            return ids
        if self.name == "math-shepherd":
            return self.tokenizer.encode(prompt.text + " " + "\n".join(f"{s} ки" for s in steps))
        assert self.name == "rlhflow"
        chat = []
        for k, step in enumerate(steps):
            text = prompt.text + " " + step if k == 0 else step
            chat += [{"role": "user", "content": text}, {"role": "assistant", "content": "+"}]
        return encode(self.tokenizer.apply_chat_template(chat, tokenize=False))[:-2]

    @torch.inference_mode()
    def score(self, prompt, steps):
        ids = torch.tensor([self.ids(prompt, steps)])
        if "sequence" in self.name:
            out = self.model(ids).logits[0]  # pooled at the last token: no padding
        else:
            out = self.model(ids).logits[0, -1]
        if self.name == "math-shepherd":
            return float(out[self.tokenizer.encode("+ -")[1:]].softmax(-1)[0])
        if self.name == "rlhflow":
            plus, minus = self.tokenizer.encode("+")[-1], self.tokenizer.encode("-")[-1]
            return float(out[[plus, minus]].softmax(-1)[0])
        return float(torch.sigmoid(out[0]) if len(out) == 1 else out.softmax(-1)[1])


def reference(name, **changes):
    """`changes` to the shape of the model."""
    changes.setdefault("max_position_embeddings", 1024)
    if name == "qwen":
        tokenizer = byte_level(("<extra_0>", "<|im_start|>", "<|im_end|>"), CHATML)
        kind = _scorer.Qwen2ForProcessRewardModel
    elif name == "skywork":
        tokenizer = byte_level(("<bos>",), bos="<bos>")
        kind = _scorer.Qwen2ForPrmModel
    elif name == "math-shepherd":
        tokenizer = sentencepiece()
        kind = tf.MistralForCausalLM
    elif name == "rlhflow":
        tokenizer = byte_level(("<|bos|>", "<|head|>", "<|/head|>", "<|eot|>"), LLAMA3)
        kind = tf.LlamaForCausalLM
    else:
        tokenizer, changes["num_labels"] = POLICY, 1 if name.endswith("1") else 2
        kind = (
            tf.LlamaForSequenceClassification
            if "sequence" in name
            else tf.LlamaForTokenClassification
        )
    model = build(kind, len(tokenizer), **changes)
    return Reference(name, model, tokenizer)


FORMAT = {"token-1": None, "token-2": None, "token-sequence-1": None}
NAMES = ["token-1", "token-2", "token-sequence-1", "qwen", "skywork", "math-shepherd", "rlhflow"]
