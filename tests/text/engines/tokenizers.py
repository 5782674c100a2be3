"""Tokenizers of the three kinds that matter, trained on a few lines."""

import functools

import transformers as tf
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

_TEXTS = [
    "one two three\n\nfour five six\nseven, eight.\n\n\nnine ten",
    "Step 1: add 2 and 3.\nStep 2: done.\n\nThe answer is 5. ¿Qué?",
    "aab aaab aabaab ## ### é€ 漢字",
] * 3


@functools.cache
def byte_level() -> tf.PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<eos>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(_TEXTS, trainer)
    return tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")


@functools.cache
def sentencepiece() -> tf.PreTrainedTokenizerFast:
    """A Llama-2-like vocabulary: spaces as ▁, unknown characters as bytes."""
    words = ["▁one", "▁two", "▁", "a", "b", "▁a", "aa", "#", "##", "▁##", ".", ",", "1"]
    vocab = {"<unk>": 0, "<s>": 1, "</s>": 2}
    vocab |= {f"<0x{b:02X}>": 3 + b for b in range(256)}
    vocab |= {w: 259 + i for i, w in enumerate(words)}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True, unk_token="<unk>"))
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


@functools.cache
def word_level(size: int = 61) -> tf.PreTrainedTokenizerFast:
    words = ["<eos>", ".", ";", *(f"w{i}" for i in range(3, size))]
    vocab = {w: i for i, w in enumerate(words)}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="w3"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tf.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")
