"""The queue as a state machine: whatever happens, every item has exactly one result."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, initialize, invariant, rule
from sqlalchemy import Connection

from outrider.batch_types import UNFINISHED, Batch, ItemResult, LineError
from outrider.errors import InvalidRequest, NotFound
from outrider.storage import batches as queue
from outrider.storage import files, sqlite
from outrider.storage.files import Page
from outrider.storage.migration import migrate
from outrider.storage.sqlite import SqliteFile
from storage.records import make_batch, make_file, make_items, result_of

T = TypeVar("T")
MAX_BATCHES = 4


class Queue(RuleBasedStateMachine):
    """The database against a dictionary."""

    ids = Bundle("ids")

    @initialize()
    def open(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.path = self.folder / "queue.db"
        self.connect()
        migrate(self.connection, SqliteFile(self.path))
        self.known: dict[str, Batch] = {}
        self.results: dict[str, dict[int, ItemResult]] = {}
        self.now_s = 100

    def connect(self) -> None:
        engine = sqlite._engine(self.path)
        self.connection = engine.connect()

    def teardown(self) -> None:
        self.connection.close()
        shutil.rmtree(self.folder)

    def do(self, work: Callable[..., T], *arguments: Any) -> T:
        with self.connection.begin():
            return work(self.connection, *arguments)

    def change(self, batch_id: str, **fields: Any) -> None:
        batch = self.known[batch_id]
        self.known[batch_id] = Batch(**{**_fields(batch), **fields})

    @rule(target=ids, keep_s=st.integers(1, 30), owner=st.sampled_from(["me", "you"]))
    def add(self, keep_s: int, owner: str) -> str:
        batch_id = f"batch_{len(self.results)}"
        batch = make_batch(batch_id, keep_results_s=keep_s, owner=owner, metadata={"a": "b"})
        self.results[batch_id] = {}
        waiting = [b for b in self.known.values() if b.status in UNFINISHED]
        if len(waiting) >= MAX_BATCHES:
            with pytest.raises(InvalidRequest, match="--max-batches"):
                self.do(queue.add_batch, batch, MAX_BATCHES)
        else:
            self.do(queue.add_batch, batch, MAX_BATCHES)
            self.known[batch_id] = batch
        return batch_id

    @rule(batch_id=ids, count=st.integers(1, 5))
    def accept(self, batch_id: str, count: int) -> None:
        if self.status(batch_id) != "validating":  # the only one who accepts is its validation
            return
        assert self.do(queue.accept, batch_id, make_items(count), self.now_s)
        self.change(batch_id, status="in_progress", in_progress_s=self.now_s, num_requests=count)

    @rule(batch_id=ids)
    def reject(self, batch_id: str) -> None:
        if self.status(batch_id) != "validating":
            return
        errors = (LineError("invalid_json", "no", 3, "body"),)
        assert self.do(queue.reject, batch_id, errors, self.now_s)
        self.change(batch_id, errors=errors)
        self.ended(batch_id, "failed")

    @rule(batch_id=ids, position=st.integers(0, 5), is_error=st.booleans())
    def finish(self, batch_id: str, position: int, is_error: bool) -> None:
        result = result_of(position, is_error)
        is_new = (
            self.status(batch_id) in UNFINISHED
            and position < self.known[batch_id].num_requests
            and position not in self.results[batch_id]
        )
        assert self.do(queue.finish_item, batch_id, result) == is_new
        if is_new:
            self.results[batch_id][position] = result
            batch = self.known[batch_id]
            self.change(
                batch_id,
                num_completed=batch.num_completed + (not is_error),
                num_failed=batch.num_failed + is_error,
                prompt_tokens=batch.prompt_tokens + 3,
                completion_tokens=batch.completion_tokens + 2,
                cached_tokens=batch.cached_tokens + 1,
            )

    @rule(batch_id=ids)
    def cancel(self, batch_id: str) -> None:
        can = self.status(batch_id) in ("validating", "in_progress")
        assert self.do(queue.cancel, batch_id, self.now_s) == can
        if can:
            self.change(batch_id, status="cancelling", cancelling_s=self.now_s)

    @rule(batch_id=ids)
    def finalize(self, batch_id: str) -> None:
        can = self.status(batch_id) == "in_progress"
        assert self.do(queue.begin_finalizing, batch_id, self.now_s) == can
        if can:
            self.change(batch_id, status="finalizing", finalizing_s=self.now_s)

    @rule(batch_id=ids, status=st.sampled_from(["completed", "expired", "cancelled"]))
    def end(self, batch_id: str, status: Any) -> None:
        can = self.status(batch_id) in UNFINISHED
        file_ids = {"output_file_id": "file-out"}
        assert self.do(queue.end_batch, batch_id, status, self.now_s, file_ids) == can
        if can:
            self.change(batch_id, **file_ids)
            self.ended(batch_id, status)

    def ended(self, batch_id: str, status: str) -> None:
        keep_s = self.known[batch_id].keep_results_s
        fields = {"status": status, f"{status}_s": self.now_s, "delete_s": self.now_s + keep_s}
        self.change(batch_id, **fields)

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds: int) -> None:
        self.now_s += seconds
        self.do(queue.delete_old, self.now_s)
        for batch in list(self.known.values()):
            if batch.delete_s is not None and batch.delete_s <= self.now_s:
                del self.known[batch.id]

    @rule()
    def restart(self) -> None:
        self.connection.close()
        self.connect()

    def status(self, batch_id: str) -> str:
        batch = self.known.get(batch_id)
        return "" if batch is None else batch.status

    @invariant()
    def batches_are_as_they_should_be(self) -> None:
        waiting = [batch for batch in self.known.values() if batch.status in UNFINISHED]
        assert self.do(queue.unfinished) == waiting
        for owner in ("me", "you"):
            own = [batch for batch in self.known.values() if batch.owner == owner]
            listed, has_more = self.do(queue.list_batches, owner, "openai", Page(100))
            assert (listed, has_more) == (own[::-1], False)
        for batch_id in self.results:
            assert self.do(queue.reload, batch_id) == self.known.get(batch_id)

    @invariant()
    def each_item_is_done_once_or_to_do(self) -> None:
        for batch in self.do(queue.unfinished):
            done = self.results[batch.id]
            rows = self.do(queue.results, batch.id, -1, 100)
            assert [row.position for row in rows] == sorted(done)
            assert all(row.body == done[row.position].body for row in rows)
            todo = [item.position for item in self.do(queue.next_items, batch.id, -1, 100)]
            assert sorted([*todo, *done]) == list(range(batch.num_requests))
            assert batch.num_completed + batch.num_failed == len(done)


def _fields(batch: Batch) -> dict[str, Any]:
    return {name: getattr(batch, name) for name in Batch.__struct_fields__}


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=12, stateful_step_count=25, deadline=None)


@pytest.fixture
def connection(tmp_path: Path) -> Any:
    path = tmp_path / "queue.db"
    with sqlite._engine(path).connect() as it:
        migrate(it, SqliteFile(path))
        yield it


def test_files_are_listed_page_by_page_in_both_orders(connection: Connection) -> None:
    for number in range(5):
        files.add_file(connection, make_file(f"file-{number}"), max_files=7)
    files.add_file(connection, make_file("other", owner="you"), max_files=7)
    files.put_file(connection, make_file("hidden", purpose="queued"))
    for ascending in (False, True):
        seen: list[str] = []
        more, after = True, None
        while more:
            page, more = files.list_files(connection, "me", Page(2, after, ascending), None)
            seen += [file.id for file in page]
            after = seen[-1]
        assert seen == [f"file-{n}" for n in (range(5) if ascending else range(4, -1, -1))]
    with pytest.raises(InvalidRequest, match="--max-files"):
        files.add_file(connection, make_file("file-8"), max_files=7)
    with pytest.raises(NotFound, match="No such File object: nothing"):
        files.list_files(connection, "me", Page(2, "nothing"), None)


def test_nobody_sees_or_deletes_the_files_and_batches_of_others(connection: Connection) -> None:
    files.put_file(connection, make_file())
    queue.add_batch(connection, make_batch(), 9)
    assert files.find_file(connection, "file-1", "me", "file_id").id == "file-1"
    assert queue.find_batch(connection, "batch_1", "me", "openai").id == "batch_1"
    for work in (
        lambda: files.find_file(connection, "file-1", "you", "file_id"),
        lambda: files.delete_file(connection, "file-1", "you"),
        lambda: queue.find_batch(connection, "batch_1", "you", "openai"),
        lambda: queue.find_batch(connection, "batch_1", "me", "workers-ai"),
    ):
        with pytest.raises(NotFound):
            work()
    assert queue.list_batches(connection, "you", "openai", Page(9)) == ([], False)


def test_a_file_is_kept_while_a_batch_reads_it(connection: Connection) -> None:
    files.put_file(connection, make_file(expires_s=150))
    queue.add_batch(connection, make_batch(), 9)
    with pytest.raises(InvalidRequest, match="input of batch_1"):
        files.delete_file(connection, "file-1", "me")
    assert files.delete_expired_files(connection, 200) == []
    queue.end_queued(connection, "batch_1", "completed", 200)
    assert files.delete_expired_files(connection, 200) == ["file-1"]
    assert files.all_file_ids(connection) == []


def test_failures_of_an_item_are_counted(connection: Connection) -> None:
    queue.add_batch(connection, make_batch(), 9)
    queue.accept(connection, "batch_1", make_items(2), 1)
    counts = [queue.count_failure(connection, "batch_1", 1) for _ in range(3)]
    assert counts == [1, 2, 3]
    assert queue.count_failure(connection, "batch_1", 0) == 1


def test_the_next_time_to_look_is_the_first_deadline_or_deletion(connection: Connection) -> None:
    assert queue.next_deadline(connection) is None
    queue.add_batch(connection, make_batch("a", deadline_s=500), 9)
    queue.add_batch(connection, make_batch("b", deadline_s=400, keep_results_s=50), 9)
    assert queue.next_deadline(connection) == 400
    queue.end_queued(connection, "b", "completed", 300)
    assert queue.next_deadline(connection) == 350
