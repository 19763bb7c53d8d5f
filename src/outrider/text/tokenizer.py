"""Text to token ids and back, through the `tokenizers` library.

`encode` treats all of its text as content: no control token ever comes out of it, whatever a user
writes. Control tokens are placed by id only, with `special`. Token bytes are looked up one at a
time, so that opening a tokenizer costs nothing but the library's own load. Refuses text that
isn't Unicode and a tokenizer.json that doesn't hold together.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

import msgspec
import tokenizers

from outrider.errors import CheckpointError, InvalidRequest

# Longer runs without a change between space and non-space are cut, as Meta's tokenizer does
# (llama-models, llama4/tokenizer.py): a pre-tokenizer may backtrack over a run, and no real text
# has one.
MAX_RUN_CHARS = 25_000
# Meta's cuts every text into pieces of this length before; here only Meta's vocabularies do.
MAX_PIECE_CHARS = 400_000
_METAS_TOKEN = "<|begin_of_text|>"
_LONG_RUN = re.compile(rf"(?<!\s)\s{{{MAX_RUN_CHARS + 1},}}|(?<!\S)\S{{{MAX_RUN_CHARS + 1},}}")

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_METASPACE = "▁"
_MAX_REASON_CHARS = 200  # the library quotes tokens of any length


class _AddedToken(msgspec.Struct):
    id: int
    content: str
    special: bool = False
    normalized: bool = False


class _Model(msgspec.Struct):
    byte_fallback: bool = False
    unk_token: str | None = None


class _TokenizerFile(msgspec.Struct):
    model: _Model
    decoder: dict[str, Any] | None = None
    added_tokens: list[_AddedToken] = []


class Tokenizer:
    """One vocabulary; safe to share between threads."""

    def __init__(self, tokenizer_json: str) -> None:
        with BareErrors():
            library = tokenizers.Tokenizer.from_str(tokenizer_json)
        try:
            parts = msgspec.json.decode(tokenizer_json, type=_TokenizerFile)
        except msgspec.MsgspecError as error:
            raise CheckpointError(f"the tokenizer can't be read: {error}") from error
        library.no_truncation()
        library.no_padding()
        self._library = library
        self._added = {token.id: token.content for token in parts.added_tokens}
        self._added_ids = {token.content: token.id for token in parts.added_tokens}
        self._special_ids = {token.id for token in parts.added_tokens if token.special}
        self._control_ids = self._special_ids - {self._added_ids.get(parts.model.unk_token or "")}
        self._bytes: dict[int, bytes] = {}
        decoders = _decoder_types(parts.decoder)
        self._is_byte_level = "ByteLevel" in decoders
        self._has_byte_tokens = parts.model.byte_fallback or "ByteFallback" in decoders
        self._strips_space = bool(decoders & {"Strip", "Metaspace"})
        with BareErrors():
            self.prefix_ids = self._read_prefix()
        # The library leaves special tokens in a text alone once it is told so, but not the other
        # added ones (test_no_added_token_is_recognised_in_content); so here all are special.
        library.encode_special_tokens = True
        library.add_special_tokens(
            [
                tokenizers.AddedToken(token.content, special=True, normalized=token.normalized)
                for token in parts.added_tokens
                if not token.special
            ]
        )

    @property
    def vocab_size(self) -> int:
        """Number of tokens; a model's own vocabulary may be padded beyond it."""
        return self._library.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str, param: str | None = None) -> list[int]:
        """Tokenise content; no token is added and none of the result is a control token.

        `param` is the path of the request's field that is named when the text isn't Unicode.
        """
        check_unicode(text, param)
        token_ids = self._encode_pieces(self._cut(text))
        if self._control_ids.isdisjoint(token_ids):
            return token_ids
        # A vocabulary can hold the names of control tokens as ordinary entries (GGUF does); a
        # model that looks whole words up before it merges would then find them.
        return self._encode_pieces(self._break_names(text, param))

    def special(self, name: str) -> int:
        """Give the id of a control token."""
        try:
            return self._added_ids[name]
        except KeyError:
            raise CheckpointError(
                f"the tokenizer has no token {name}, which the model's chat format needs; "
                "fetch the model again"
            ) from None

    def has_special(self, name: str) -> bool:
        """Say whether there is a control token of this name."""
        return name in self._added_ids

    def is_special(self, token_id: int) -> bool:
        """Say whether a token controls the model and stands for no text."""
        return token_id in self._special_ids

    def token_bytes(self, token_id: int) -> bytes:
        """Give a token's bytes, which may be a part of a character; of a control token, its name.

        Ids that pad a model's vocabulary have none.
        """
        data = self._bytes.get(token_id)
        if data is None:
            data = self._bytes[token_id] = self._find_bytes(token_id)
        return data

    def decode(self, token_ids: Iterable[int], skip_special: bool = True) -> str:
        """Give the text of whole tokens; bytes that aren't UTF-8 become U+FFFD."""
        data = b"".join(
            self.token_bytes(token_id)
            for token_id in token_ids
            if not (skip_special and token_id in self._special_ids)
        )
        text = data.decode("utf-8", "replace")
        return text.removeprefix(" ") if self._strips_space else text

    def _cut(self, text: str) -> list[str]:
        if len(text) <= MAX_PIECE_CHARS or _METAS_TOKEN not in self._added_ids:
            return _cut_long_runs(text)
        begins = range(0, len(text), MAX_PIECE_CHARS)
        pieces = (text[begin : begin + MAX_PIECE_CHARS] for begin in begins)
        return [cut for piece in pieces for cut in _cut_long_runs(piece)]

    def _encode_pieces(self, pieces: Sequence[str]) -> list[int]:
        # The batch call releases the GIL and keeps no offsets: four times as fast on long text.
        batch = self._library.encode_batch_fast(pieces, add_special_tokens=False)
        if len(batch) == 1:
            return list(batch[0].ids)
        return [token_id for encoding in batch for token_id in encoding.ids]

    def _break_names(self, text: str, param: str | None) -> list[str]:
        names = sorted((self._added[token_id] for token_id in self._control_ids), key=len)
        pieces = []
        begin = 0
        for match in re.finditer("|".join(map(re.escape, reversed(names))), text):
            if len(match[0]) < 2:
                raise InvalidRequest(f"the text has the control character {match[0]!r}", param)
            pieces.append(text[begin : match.start() + 1])
            begin = match.start() + 1
        return [cut for piece in (*pieces, text[begin:]) for cut in self._cut(piece)]

    def _read_prefix(self) -> tuple[int, ...]:
        """Give the ids that the tokenizer's own rules put before a text (<s> of Llama 2)."""
        encoding = self._library.encode("a", add_special_tokens=True)
        mask = encoding.special_tokens_mask
        return tuple(encoding.ids[: mask.index(0)]) if 0 in mask else ()

    def _find_bytes(self, token_id: int) -> bytes:
        if token_id in self._added:
            return self._added[token_id].encode("utf-8")
        token = self._library.id_to_token(token_id) if 0 <= token_id < 1 << 32 else None
        if token is None:
            return b""
        if self._is_byte_level:
            try:
                return token.translate(_BYTE_ALPHABET).encode("latin-1")
            except UnicodeEncodeError:
                return token.encode("utf-8")
        byte_token = _BYTE_TOKEN.fullmatch(token) if self._has_byte_tokens else None
        if byte_token:
            return bytes([int(byte_token[1], 16)])
        return token.replace(_METASPACE, " ").encode("utf-8")


class BareErrors:
    """Turns the library's errors, which are of class Exception itself, into `CheckpointError`."""

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is Exception:
            reason = str(error).splitlines()[0][:_MAX_REASON_CHARS]
            raise CheckpointError(f"the tokenizer can't be read: {reason}") from error


def _decoder_types(decoder: dict[str, Any] | None) -> set[str]:
    """Give the types of a decoder and of all decoders in it."""
    if decoder is None:
        return set()
    types = {str(decoder.get("type"))}
    for inner in decoder.get("decoders") or ():
        types |= _decoder_types(inner)
    return types


def check_unicode(text: str, param: str | None) -> None:
    """Refuse a text with half a surrogate; `param` is the field that is named."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"character {error.start} is the lone surrogate U+{ord(text[error.start]):04X}; "
            "send valid Unicode",
            param,
        ) from error


def _cut_long_runs(text: str) -> list[str]:
    """Cut inside of every run of more than `MAX_RUN_CHARS`; other text stays in one piece."""
    if len(text) <= MAX_RUN_CHARS:
        return [text]
    cuts = [0]
    for run in _LONG_RUN.finditer(text):
        cuts += range(run.start() + MAX_RUN_CHARS, run.end(), MAX_RUN_CHARS)
    return [text[begin:end] for begin, end in zip(cuts, [*cuts[1:], len(text)], strict=True)]


def _byte_alphabet() -> dict[int, int]:
    """Give the byte behind each character of GPT-2's alphabet, for `str.translate`.

    Printable Latin-1 characters stand for themselves, the other bytes for U+0100 onwards; Latin-1's
    others, which no byte is written as, become a character that Latin-1 doesn't have.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(printable))
    unknown = dict.fromkeys(others, 0xFFFD)
    return unknown | {0x100 + index: byte for index, byte in enumerate(others)}


_BYTE_ALPHABET = _byte_alphabet()
