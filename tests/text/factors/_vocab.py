"""Tiny tokenizers of characters and of bytes."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

EOS = 0


def char_tokenizer(alphabet, fuse=True, extra=("<eos>",)):
    """One token per character; id 0 ends the text."""
    vocab = {token: i for i, token in enumerate([*extra, *alphabet])}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token=extra[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    if fuse:
        tokenizer.decoder = decoders.Fuse()
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")
    fast.add_special_tokens({"additional_special_tokens": list(extra[1:])})
    return fast


def byte_tokenizer(merges=()):
    """Byte-level BPE over all 256 bytes, with some merges; id 0 ends the text."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merged = [a + b for a, b in merges]
    vocab = {token: i for i, token in enumerate(["<eos>", *alphabet, *merged])}
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=list(merges)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>")
