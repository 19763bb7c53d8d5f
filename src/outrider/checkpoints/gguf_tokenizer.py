"""The tokenizer in a GGUF file's metadata, as JSON of the `tokenizers` library.

Byte-level BPE ("gpt2") with the text splits that are known by name, and SentencePiece ("llama").
A split that isn't known is refused: a wrong one gives wrong tokens without any error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from outrider.checkpoints.excerpt import shown
from outrider.checkpoints.gguf import Value
from outrider.checkpoints.tokenizer_json import (
    BYTES,
    LLAMA4_SPLIT,
    Json,
    Pair,
    added_token,
    begins_with,
    bpe,
    fewest_merges,
    split,
    to_text,
)
from outrider.errors import CheckpointError

MAX_PIECE_CHARS = 1024  # every cut of a SentencePiece token is looked up
# Token types: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte.
_NORMAL, _UNKNOWN, _CONTROL, _USER_DEFINED = 1, 2, 3, 4
_ADDED = (_UNKNOWN, _CONTROL, _USER_DEFINED)
_NO_VOCABULARY = ("no_vocab", "none")  # as llama.cpp names it
_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_GPT2_SPLIT = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3_SPLIT = (
    _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
    r"|\s+(?!\S)|\s+"
)
_DIGITS = {"type": "Digits", "individual_digits": True}
# By tokenizer.ggml.pre: steps of the split, and whether a whole word that is a token wins.
_SPLITS: dict[str, tuple[list[Json], bool]] = {
    "smollm": ([_DIGITS, split(_GPT2_SPLIT), BYTES], False),
    "gpt-2": ([split(_GPT2_SPLIT), BYTES], False),
    "default": (
        [
            split(r"[\p{P}\$\+<=>\^~\|]+"),
            split(_GPT2_SPLIT),
            split(r"\p{N}+"),
            split(r"[0-9][0-9][0-9]"),
            BYTES,
        ],
        False,
    ),
    "llama-bpe": ([split(_LLAMA3_SPLIT), BYTES], True),
    "llama4": ([split(LLAMA4_SPLIT), BYTES], True),
}
_SPLITS |= {"llama3": _SPLITS["llama-bpe"], "llama-v3": _SPLITS["llama-bpe"]}
_SPLITS |= {"gpt-4o": _SPLITS["llama4"]}  # the same for llama.cpp
_IDS_ARE_RANKS = ("llama4", "gpt-4o")
_BEGINS_WITH_BOS = ("llama-bpe", "llama3", "llama-v3", "llama4")


def has_tokenizer(metadata: Mapping[str, Value]) -> bool:
    """Say whether a file has a vocabulary; one of weights alone is run by token ids."""
    if metadata.get("tokenizer.ggml.model") in _NO_VOCABULARY:
        return False
    return any(key.startswith("tokenizer.ggml.") for key in metadata)


class GgufTokenizer:
    """The vocabulary of a GGUF file; `label` names the file in errors."""

    def __init__(self, metadata: Mapping[str, Value], label: str) -> None:
        self._metadata = metadata
        self._label = label
        self.model = self._string("model")
        if self.model not in ("gpt2", "llama"):
            raise CheckpointError(
                f"{label}: the tokenizer {shown(self.model)} isn't supported; use a file with a "
                "byte-level BPE (gpt2) or SentencePiece (llama) tokenizer"
            )
        self.tokens = self._strings("tokens")
        self.token_ids = {token: token_id for token_id, token in enumerate(self.tokens)}
        if len(self.token_ids) != len(self.tokens):
            raise CheckpointError(f"{label}: tokenizer.ggml.tokens has a token twice")

    @property
    def pre(self) -> str:
        """Name of the way a byte-level BPE splits text."""
        return self._string("pre") if self.model == "gpt2" else ""

    def token_id(self, name: str) -> int | None:
        """Give a special token's id by the name it has in the metadata, such as "eos"."""
        value = self._metadata.get(f"tokenizer.ggml.{name}_token_id")
        return value if isinstance(value, int) else None

    def bos_token_id(self) -> int | None:
        """Give the token that every prompt begins with, if any."""
        default = self.model == "llama" or self.pre in _BEGINS_WITH_BOS
        is_added = self._metadata.get("tokenizer.ggml.add_bos_token", default)
        return self.token_id("bos") if is_added else None

    def to_json(self) -> str:
        """Write the tokenizer as JSON; merges are checked against the vocabulary."""
        parts = self._byte_level() if self.model == "gpt2" else self._sentence_piece()
        return to_text(
            {
                "added_tokens": self._added_tokens(),
                "post_processor": self._post_processor(),
                **parts,
            }
        )

    def _post_processor(self) -> Json | None:
        """Put the bos token before a text, if the model was trained so."""
        token_id = self.bos_token_id()
        if token_id is None or not 0 <= token_id < len(self.tokens):
            return None
        return begins_with(self.tokens[token_id], token_id)

    def _byte_level(self) -> Json:
        if self.pre not in _SPLITS:
            raise CheckpointError(
                f"{self._label}: the text split {shown(self.pre)} (tokenizer.ggml.pre) isn't "
                f"known; known are {', '.join(_SPLITS)}"
            )
        steps, whole_words = _SPLITS[self.pre]
        merges = self._merges()
        vocab = self._mergeable(merges)
        if self.pre in _IDS_ARE_RANKS:
            merges = fewest_merges(self._normal(vocab), merges, self._label)
        return {
            "normalizer": None,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": steps},
            "decoder": BYTES | {"use_regex": True},
            "model": bpe(vocab, merges) | {"ignore_merges": whole_words},
        }

    def _merges(self) -> Sequence[Pair]:
        ids, merges = self.token_ids, []
        for merge in self._strings("merges"):
            left, _, right = merge.partition(" ")
            if left not in ids or right not in ids or left + right not in ids:
                raise CheckpointError(
                    f"{self._label}: tokenizer.ggml.merges has {shown(merge)}, which isn't "
                    "two tokens that make a third; fetch the model again"
                )
            merges.append((left, right))
        return merges

    def _mergeable(self, merges: Sequence[Pair]) -> dict[str, int]:
        """Give the vocabulary without added tokens, if all of these are at its end.

        The library numbers added tokens that it doesn't know from the end of the vocabulary on.
        """
        kinds = self._kinds()
        end = len(self.tokens)
        while end > 0 and kinds[end - 1] in _ADDED:
            end -= 1
        added = set(self.tokens[end:])
        if any(kind in _ADDED for kind in kinds[:end]) or any(
            left in added or right in added or left + right in added for left, right in merges
        ):
            return self.token_ids
        return {token: token_id for token_id, token in enumerate(self.tokens[:end])}

    def _normal(self, vocab: dict[str, int]) -> dict[str, int]:
        kinds = self._kinds()
        return {token: token_id for token, token_id in vocab.items() if kinds[token_id] == _NORMAL}

    def _sentence_piece(self) -> Json:
        """Express SentencePiece's BPE: a pair is merged in the order of its result's score."""
        scores = self._numbers("scores")
        unknown = self.token_id("unknown")
        if unknown is not None and not 0 <= unknown < len(self.tokens):
            raise CheckpointError(f"{self._label}: there is no unknown token {unknown}")
        steps: list[Json] = [{"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]
        decoders: list[Json] = [
            {"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
            {"type": "ByteFallback"},
            {"type": "Fuse"},
        ]
        if self._metadata.get("tokenizer.ggml.add_space_prefix", True):
            steps.insert(0, {"type": "Prepend", "prepend": "▁"})
            decoders.append({"type": "Strip", "content": " ", "start": 1, "stop": 0})
        model = bpe(self.token_ids, self._merges_by_score(scores)) | {
            "unk_token": None if unknown is None else self.tokens[unknown],
            "fuse_unk": True,
            "byte_fallback": True,
        }
        return {
            "normalizer": {"type": "Sequence", "normalizers": steps},
            "pre_tokenizer": None,
            "decoder": {"type": "Sequence", "decoders": decoders},
            "model": model,
        }

    def _merges_by_score(self, scores: list[float]) -> list[Pair]:
        types = self._numbers("token_type")
        ids = {token: i for token, i in self.token_ids.items() if types[i] == _NORMAL}
        ranked = []
        for token, token_id in ids.items():
            if len(token) > MAX_PIECE_CHARS:
                raise CheckpointError(
                    f"{self._label}: token {token_id} has {len(token)} characters, more than "
                    f"{MAX_PIECE_CHARS}; convert the model again"
                )
            for cut in range(1, len(token)):
                left, right = token[:cut], token[cut:]
                if left in ids and right in ids:
                    ranked.append((-scores[token_id], ids[left], ids[right], left, right))
        ranked.sort()
        return [(left, right) for *_, left, right in ranked]

    def _added_tokens(self) -> list[Json]:
        return [
            added_token(token_id, self.tokens[token_id], kind != _USER_DEFINED)
            for token_id, kind in enumerate(self._kinds())
            if kind in _ADDED
        ]

    def _kinds(self) -> list[float]:
        """Give the type of every token; without any all are normal."""
        if "tokenizer.ggml.token_type" not in self._metadata:
            return [_NORMAL] * len(self.tokens)
        return self._numbers("token_type")

    def _get(self, key: str) -> Value:
        name = f"tokenizer.ggml.{key}"
        if name not in self._metadata:
            raise CheckpointError(
                f"{self._label}: metadata {name} is missing; convert the model again"
            )
        return self._metadata[name]

    def _string(self, key: str) -> str:
        value = self._get(key)
        if not isinstance(value, str):
            raise CheckpointError(f"{self._label}: tokenizer.ggml.{key} isn't a string")
        return value

    def _strings(self, key: str) -> list[str]:
        values = self._get(key)
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise CheckpointError(f"{self._label}: tokenizer.ggml.{key} isn't a list of strings")
        return values  # type: ignore[return-value]

    def _numbers(self, key: str) -> list[float]:
        values = self._get(key)
        if not isinstance(values, np.ndarray) or values.size != len(self.tokens):
            raise CheckpointError(
                f"{self._label}: tokenizer.ggml.{key} doesn't hold one number per token"
            )
        return values.tolist()  # type: ignore[no-any-return]
