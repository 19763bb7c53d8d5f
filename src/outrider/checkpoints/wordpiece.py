"""BERT's vocab.txt as a tokenizer of the `tokenizers` library.

Owns the rules that BertTokenizer adds to a bare list of words (Devlin et al., arXiv:1810.04805):
cleaning, lower case, splitting at punctuation, [CLS] before and [SEP] after a text.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from outrider.errors import CheckpointError

MAX_VOCABULARY_BYTES = 1 << 26
_ROLES = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
_MAX_WORD_CHARS = 100  # BertTokenizer: longer words are unknown


def wordpiece_json(file: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give tokenizer.json for a vocab.txt; `settings` are those of tokenizer_config.json."""
    vocabulary = _read_vocabulary(file)
    ids = {role: vocabulary[role] for role in _ROLES if role in vocabulary}
    for role in ("[UNK]", "[CLS]", "[SEP]"):
        if role not in ids:
            raise CheckpointError(f"{file} has no {role}; fetch the model again")
    added = [
        {"id": token_id, "content": role, "special": True, "normalized": False}
        | dict.fromkeys(("single_word", "lstrip", "rstrip"), False)
        for role, token_id in ids.items()
    ]
    return {
        "version": "1.0",
        "added_tokens": added,
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": True,
            "handle_chinese_chars": settings.get("tokenize_chinese_chars", True) is not False,
            "strip_accents": settings.get("strip_accents"),
            "lowercase": settings.get("do_lower_case", True) is not False,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": _ends(ids),
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": "[UNK]",
            "continuing_subword_prefix": "##",
            "max_input_chars_per_word": _MAX_WORD_CHARS,
            "vocab": vocabulary,
        },
    }


def _ends(ids: Mapping[str, int]) -> dict[str, Any]:
    """Put [CLS] before and [SEP] after a text."""
    text = {"Sequence": {"id": "A", "type_id": 0}}
    second = {"Sequence": {"id": "B", "type_id": 1}}
    cls, sep = ({"SpecialToken": {"id": role, "type_id": 0}} for role in ("[CLS]", "[SEP]"))
    return {
        "type": "TemplateProcessing",
        "single": [cls, text, sep],
        "pair": [cls, text, sep, second, sep],
        "special_tokens": {
            role: {"id": role, "ids": [ids[role]], "tokens": [role]} for role in ("[CLS]", "[SEP]")
        },
    }


def _read_vocabulary(file: Path) -> dict[str, int]:
    try:
        if file.stat().st_size > MAX_VOCABULARY_BYTES:
            raise CheckpointError(f"{file} is too long for a vocabulary; fetch the model again")
        lines = file.read_text("utf-8").split("\n")
    except OSError as error:
        raise CheckpointError(
            f"{file} can't be read ({error.strerror}); a model folder needs tokenizer.json or "
            "vocab.txt, fetch it again"
        ) from error
    except UnicodeDecodeError as error:
        raise CheckpointError(
            f"{file} isn't UTF-8 ({error.reason}); fetch the model again"
        ) from error
    if lines and not lines[-1]:
        lines.pop()
    return {line.rstrip("\r"): index for index, line in enumerate(lines)}
