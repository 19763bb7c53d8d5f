"""The web page's conversations as the server keeps them, and the words that they are found by.

What a thread holds is the page's business: it is JSON that comes back as it was written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

import msgspec

MAX_WORD_CHARS = 64
MAX_WORDS_CHARS = 256 << 10  # of one conversation; later words aren't found
MAX_QUERY_WORDS = 10
_WORD = re.compile(rf"\w{{1,{MAX_WORD_CHARS}}}")


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """What a list says of a conversation."""

    id: str  # made by who wrote it
    version: int  # 1 is the first
    title: str
    created_ms: int  # Unix time, as its writer's clock had it
    updated_ms: int
    num_threads: int
    num_bytes: int


class Conversation(Summary, frozen=True, kw_only=True):
    """A whole conversation; `threads` is JSON, and `words` what it is found by."""

    words: str = ""
    threads: bytes


class Cursor(NamedTuple):
    """The last conversation of the page before."""

    updated_ms: int
    id: str


class Search(NamedTuple):
    """Which part of an owner's conversations is wanted, newest first."""

    limit: int
    words: tuple[str, ...] | None = None  # that it has, each as part of a word; None: any
    after: Cursor | None = None


def words_of(texts: Iterable[str]) -> str:
    """Give the words of texts, each once: what a conversation is found by.

    Case and width of letters don't matter. A scan through 10,000 of these takes a tenth of a
    second at most, and is the same on SQLite and PostgreSQL, which their own indexes are not.
    """
    words: dict[str, None] = {}
    room = MAX_WORDS_CHARS
    for text in texts:
        for word in _words(text):
            if word in words:
                continue
            room -= len(word) + 1
            if room < 0:
                return " ".join(words)
            words[word] = None
    return " ".join(words)


def query_words(text: str) -> tuple[str, ...]:
    """Give the words of a question, all of which have to be in a conversation."""
    return tuple(dict.fromkeys(_words(text)))[:MAX_QUERY_WORDS]


def _words(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text).casefold())
