"""Conversations in the database: versions, owners, bounds, and what they are found by."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from metering.test_keys import key
from outrider import conversation_types
from outrider.conversation_types import Conversation, Cursor, Search, Summary, query_words, words_of
from outrider.errors import Conflict, InvalidRequest, NotFound, OutriderError, Unauthorized
from outrider.metering.key_store import add_key, revoke_key
from outrider.metering.keys import id_of
from outrider.storage import conversations
from outrider.storage.conversations import (
    delete_conversation,
    find_conversation,
    list_conversations,
    put_conversation,
)
from storage.records import run

MINE, OTHER = id_of("mine"), id_of("other")
ANY = Search(100)


def conversation(conversation_id: str = "c", **fields: Any) -> Conversation:
    threads = fields.pop("threads", b"[]")
    values = {"version": 0, "title": "t", "created_ms": 1, "updated_ms": 2, "num_threads": 1}
    values |= {"num_bytes": len(threads), "words": ""}
    return Conversation(id=conversation_id, threads=threads, **{**values, **fields})


def with_keys(path: Path, *works: Callable[[Connection], Any]) -> list[Any]:
    def add_keys(connection: Connection) -> None:
        for name in ("mine", "other"):
            add_key(connection, key(name))

    return run(path, add_keys, *works)[1:]


def error_of(work: Callable[[], Any]) -> type[OutriderError]:
    with pytest.raises(OutriderError) as caught:
        work()
    return type(caught.value)


def put(connection: Connection, wanted: Conversation, owner: str = MINE) -> Any:
    return put_conversation(connection, owner, wanted)


def test_a_change_names_the_version_it_was_made_from(tmp_path: Path) -> None:
    def work(connection: Connection) -> None:
        first = put(connection, conversation(threads=b"[1]"))
        assert first.version == 1
        assert put(connection, conversation(threads=b"[1]")) == first  # sent twice
        with pytest.raises(Conflict, match="version 1 is here, and this was made from version 0"):
            put(connection, conversation(threads=b"[2]"))
        second = put(connection, conversation(version=1, threads=b"[2]", title="new"))
        assert (second.version, second.title, second.num_bytes) == (2, "new", 3)
        assert find_conversation(connection, MINE, "c").threads == b"[2]"
        for version in (0, 1, 3):
            wanted = conversation(version=version, threads=b"[3]")
            assert error_of(lambda it=wanted: put(connection, it)) is Conflict
        delete_conversation(connection, MINE, "c")
        with pytest.raises(Conflict, match="it isn't here any more"):
            put(connection, conversation(version=2))
        assert put(connection, conversation()).version == 1

    with_keys(tmp_path / "d", work)


def test_nobody_reads_changes_deletes_or_lists_what_is_another_keys(tmp_path: Path) -> None:
    def work(connection: Connection) -> None:
        put(connection, conversation(words="secret"))
        assert error_of(lambda: find_conversation(connection, OTHER, "c")) is NotFound
        assert error_of(lambda: delete_conversation(connection, OTHER, "c")) is NotFound
        assert list_conversations(connection, OTHER, Search(9, ("secret",))) == ([], False)
        # The same id is another conversation there.
        assert put(connection, conversation(title="theirs"), OTHER).version == 1
        assert find_conversation(connection, MINE, "c").title == "t"
        assert error_of(lambda: put(connection, conversation(), id_of("nobody"))) is Unauthorized

    with_keys(tmp_path / "d", work)


def test_a_key_that_is_revoked_takes_its_conversations_along(tmp_path: Path) -> None:
    def work(connection: Connection) -> None:
        for owner in (MINE, OTHER):
            put(connection, conversation(threads=b'["a secret"]'), owner)
        revoke_key(connection, MINE, 5)
        assert error_of(lambda: find_conversation(connection, MINE, "c")) is NotFound
        assert error_of(lambda: put(connection, conversation())) is Unauthorized
        assert find_conversation(connection, OTHER, "c").version == 1
        revoke_key(connection, OTHER, 5)

    with_keys(tmp_path / "d", work)
    assert b"a secret" not in (tmp_path / "d").read_bytes()


def test_lists_are_read_page_by_page_though_what_was_read_is_deleted(tmp_path: Path) -> None:
    def work(connection: Connection) -> None:
        times = {f"c{n}": n // 2 for n in range(7)}  # some at the same time
        for name, updated_ms in times.items():
            put(connection, conversation(name, updated_ms=updated_ms))
        found: list[str] = []
        after = None
        for number in itertools.count():
            page, has_more = list_conversations(connection, MINE, Search(3, None, after))
            found += [one.id for one in page]
            if not has_more:
                break
            after = Cursor(page[-1].updated_ms, page[-1].id)
            delete_conversation(connection, MINE, page[-1].id)
            assert number < 5
        assert found == ["c6", "c5", "c4", "c3", "c2", "c1", "c0"]

    with_keys(tmp_path / "d", work)


@pytest.mark.parametrize(
    ("asked", "is_found"),
    [
        ("lighthouse", True),
        ("LIGHT keeper", True),
        ("house", True),
        ("ＫＥＥＰＥＲ", True),
        ("straße STRASSE", True),
        ("灯台", True),
        ("foo_bar 100%", True),
        ("light nobody", False),
        ("l_ghthouse", False),
        ("101%keeper", False),
    ],
)
def test_a_question_finds_what_has_all_its_words(
    tmp_path: Path, asked: str, is_found: bool
) -> None:
    words = words_of(["The Lighthouse-Keeper's Straße", "foo_bar 100", "海辺の灯台で\0"])
    search = Search(9, query_words(asked))

    def work(connection: Connection) -> list[Summary]:
        put(connection, conversation("yes", words=words))
        put(connection, conversation("no", words=words_of(["something else"])))
        return list_conversations(connection, MINE, search)[0]

    (found,) = with_keys(tmp_path / "d", work)
    assert [one.id for one in found] == (["yes"] if is_found else [])


@given(st.lists(st.text(max_size=30), max_size=5))
def test_every_word_of_a_text_finds_it(texts: list[str]) -> None:
    words = words_of(texts)
    assert all(word in words for text in texts for word in query_words(text))
    assert "\0" not in words
    assert len(set(words.split())) == len(words.split())


def test_words_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversation_types, "MAX_WORDS_CHARS", 10)
    assert words_of(["one one two", "three four"]) == "one two"
    assert words_of(["x" * 100]) == ""
    assert query_words(" ".join(map(str, range(100)))) == tuple(map(str, range(10)))


def test_a_key_has_so_many_conversations_and_bytes_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(conversations, "MAX_CONVERSATIONS", 2)
    monkeypatch.setattr(conversations, "MAX_BYTES", 20)

    def work(connection: Connection) -> None:
        put(connection, conversation("a", threads=b"x" * 9))
        with pytest.raises(InvalidRequest, match="export and delete some"):
            put(connection, conversation("b", threads=b"x" * 12))
        put(connection, conversation("b", threads=b"x" * 11))
        put(connection, conversation("a", version=1, threads=b"y" * 9))
        assert error_of(lambda: put(connection, conversation("c"))) is InvalidRequest
        bigger = conversation("a", version=2, threads=b"y" * 10)
        assert error_of(lambda: put(connection, bigger)) is InvalidRequest
        put(connection, conversation("b", threads=b"x" * 11), OTHER)

    with_keys(tmp_path / "d", work)
