"""The tokenizer of every tiny Llama 4: bytes, a few merged tokens, the special tokens last.

It splits text as the real one does. Written with the `tokenizers` package and plain JSON.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers

from tiny_models import MERGES

SPECIAL_TOKENS = (
    "<|begin_of_text|>", "<|end_of_text|>", "<|header_start|>", "<|header_end|>", "<|eom|>",
    "<|eot|>", "<|python_start|>", "<|python_end|>", "<|finetune_right_pad|>", "<|image_start|>",
    "<|image_end|>", "<|tile_x_separator|>", "<|tile_y_separator|>", "<|image|>", "<|patch|>",
)  # fmt: skip
FIRST_SPECIAL = 256 + len(MERGES)  # bytes and merged tokens come first, as in the real vocabulary
VOCAB_SIZE = FIRST_SPECIAL + len(SPECIAL_TOKENS)
TOKEN_IDS = {token: FIRST_SPECIAL + index for index, token in enumerate(SPECIAL_TOKENS)}
EOS_TOKENS = ("<|end_of_text|>", "<|eom|>", "<|eot|>")
CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}<|header_start|>{{ message['role'] }}"
    "<|header_end|>\n\n{{ message['content'] | trim }}<|eot|>{% endfor %}"
    "{% if add_generation_prompt %}<|header_start|>assistant<|header_end|>\n\n{% endif %}"
)
# How Llama 4 splits text (llama-models, llama4/tokenizer.py).
SPLIT = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def vocabulary() -> list[str]:
    """Give the tokens in the order of their ids: the 256 bytes, merged ones, special ones."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [*alphabet, *(merge.replace(" ", "") for merge in MERGES), *SPECIAL_TOKENS]


def tokenizer() -> tokenizers.Tokenizer:
    """Give the byte-level tokenizer of every tiny model; splits text as the real one does."""
    vocab = {token: token_id for token_id, token in enumerate(vocabulary()[:FIRST_SPECIAL])}
    merges = [(merge.split(" ")[0], merge.split(" ")[1]) for merge in MERGES]
    result = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    result.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    result.decoder = decoders.ByteLevel()
    special = [AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS]
    result.add_special_tokens(special)
    return result


def write_tokenizer(folder: Path) -> None:
    """Write tokenizer.json and the two small files that come with it."""
    (folder / "tokenizer.json").write_text(tokenizer().to_str(), "utf-8")
    names = {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot|>"}
    about = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": CHAT_TEMPLATE, **names}
    _write_json(folder / "tokenizer_config.json", about)
    ids = [TOKEN_IDS[token] for token in EOS_TOKENS]
    _write_json(
        folder / "generation_config.json", {"temperature": 0.6, "top_p": 0.9, "eos_token_id": ids}
    )


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value), "utf-8")
