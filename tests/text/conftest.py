"""Small tokenizers of every kind that checkpoints bring, as JSON of the `tokenizers` library."""

from __future__ import annotations

import json
from typing import Any

import pytest
import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, normalizers, pre_tokenizers, processors

CHATML_NAMES = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
LLAMA3_NAMES = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
)
TOOL_NAMES = ("<think>", "</think>")  # added, but text of an answer
MERGES = (
    ("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("e", "r"), ("u", "s"), ("us", "er"), ("Ċ", "Ċ"),
    ("s", "t"), ("a", "n"), ("Ġ", "Ġ"), ("i", "m"), ("<", "|"), ("|", ">"), ("Ã", "©"),
)  # fmt: skip
LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def byte_level(names: tuple[str, ...]) -> tokenizers.Tokenizer:
    """Make a byte-level BPE whose vocabulary begins with the control tokens, as in GGUF files."""
    tokens = [*names, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokens += [left + right for left, right in MERGES]
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    result = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=list(MERGES)))
    result.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    result.decoder = decoders.ByteLevel()
    result.add_special_tokens([AddedToken(name, special=True) for name in names])
    result.add_tokens([AddedToken(name, special=False) for name in TOOL_NAMES])
    return result


@pytest.fixture(scope="session")
def chatml_library() -> tokenizers.Tokenizer:
    return byte_level(CHATML_NAMES)


@pytest.fixture(scope="session")
def chatml_json(chatml_library: tokenizers.Tokenizer) -> str:
    return chatml_library.to_str()


@pytest.fixture(scope="session")
def llama3_library() -> tokenizers.Tokenizer:
    result = byte_level(LLAMA3_NAMES)
    result.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    result.post_processor = processors.TemplateProcessing(
        single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]
    )
    return result


@pytest.fixture(scope="session")
def llama3_json(llama3_library: tokenizers.Tokenizer) -> str:
    return llama3_library.to_str()


@pytest.fixture(scope="session")
def whole_word_json(chatml_json: str) -> str:
    """A tokenizer that takes a text for one word and looks it up before it merges."""
    parts: dict[str, Any] = json.loads(chatml_json)
    parts["model"]["ignore_merges"] = True
    parts["pre_tokenizer"] = {
        "type": "ByteLevel",
        "add_prefix_space": False,
        "trim_offsets": True,
        "use_regex": False,
    }
    return json.dumps(parts)


@pytest.fixture(scope="session")
def sentencepiece_json() -> str:
    """A tokenizer of Llama 2's kind: no pre-tokenizer, ▁ for spaces, bytes as <0xNN>."""
    tokens = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    tokens += ["▁", "a", "b", "c", "é", "▁a", "ab"]
    vocab = {token: token_id for token_id, token in enumerate(tokens)}
    merges = [("▁", "a"), ("a", "b")]
    model = models.BPE(
        vocab=vocab, merges=merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True
    )
    result = tokenizers.Tokenizer(model)
    result.normalizer = normalizers.Sequence(
        [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
    )
    result.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    result.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    result.add_special_tokens([AddedToken(name, special=True) for name in tokens[:3]])
    return result.to_str()
